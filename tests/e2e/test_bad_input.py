from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from checkpoints import make_opt
from e2e.conftest import POTLUCK, Machine

STARTER = (
    Path(__file__).resolve().parents[2] / "worker/potluck_worker/models/potluck-starter-Q8_0.gguf"
)


def check_sentence(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Check that a command failed with one clear sentence."""
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("potluck: ")
    for part in parts:
        assert part in lines[0]


def test_an_unknown_model_lists_what_is_near(machine: Machine) -> None:
    result = machine.potluck("ask", "-m", "potluck-startr", "Hi")
    check_sentence(result, "'potluck-startr'", "potluck-starter")


def test_a_checkpoint_on_a_pool_without_vllm_says_what_to_install(machine: Machine) -> None:
    machine.home.prepare()
    make_opt(machine.home.models / "opt-tiny")
    what = "vLLM, which runs safetensors, is not installed"
    result = machine.potluck("ask", "-m", "opt-tiny", "Hi")
    check_sentence(result, what, "vllm_python")
    fit = machine.potluck("fit", "opt-tiny")
    assert (fit.returncode, what in fit.stdout) == (1, True)
    assert "opt-tiny:BF16" in machine.potluck("models").stdout


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"GGUF", "truncated"),
        (b"not a model at all" * 100, "not a GGUF"),
    ],
)
def test_a_broken_model_file_is_said_by_name(machine: Machine, content: bytes, part: str) -> None:
    machine.home.prepare()
    (machine.home.models / "broken.gguf").write_bytes(content)
    check_sentence(machine.potluck("ask", "-m", "broken", "Hi"), "broken.gguf", part)


def test_a_truncated_model_file_is_said_by_name(machine: Machine) -> None:
    machine.home.prepare()
    whole = STARTER.read_bytes()
    (machine.home.models / "half.gguf").write_bytes(whole[: len(whole) // 2])
    check_sentence(machine.potluck("ask", "-m", "half", "Hi"), "half.gguf")
    listed = machine.potluck("models")
    assert "half" in listed.stdout
    assert "unusable" in listed.stdout


def test_a_model_too_big_for_the_machine_is_refused_with_both_numbers(machine: Machine) -> None:
    machine.add_fake_model("giant", memory_bytes=2**50)
    check_sentence(machine.potluck("ask", "-m", "giant", "Hi"), "1048576.0 GiB", "free")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nonsense"], ("'nonsense'", "potluck-starter")),
        (["potluck-starter", "--context", "0"], ("--context", "0")),
        (["potluck-starter", "--slots", "-3"], ("--slots", "-3")),
        (["potluck-starter", "--gpu-layers", "-1"], ("--gpu-layers", "-1")),
        (["potluck-starter", "--node", "nowhere"], ("nowhere",)),
    ],
)
def test_a_question_about_memory_that_cannot_be_is_refused(
    machine: Machine, arguments: list[str], parts: tuple[str, ...]
) -> None:
    check_sentence(machine.potluck("fit", *arguments), *parts)


def test_what_a_node_cannot_hold_it_says_itself(machine: Machine) -> None:
    beyond = machine.potluck("fit", "potluck-starter", "--context", "4096")
    assert beyond.returncode == 1
    assert "4,096" in beyond.stdout
    assert "trained for 2,048" in beyond.stdout
    unknown = machine.potluck("fit", "potluck-starter", "--kv-type", "q5")
    assert unknown.returncode == 2
    assert "q8_0" in unknown.stderr


def test_a_prompt_longer_than_the_context_says_both_lengths(machine: Machine) -> None:
    result = machine.potluck("ask", typed="word " * 50_000)
    check_sentence(result, "tokens", "context")


def test_no_question_is_said_with_an_example(machine: Machine) -> None:
    check_sentence(machine.potluck("ask"), "potluck ask")


def test_a_home_that_cannot_be_written_says_where_it_is(machine: Machine) -> None:
    machine.home.root.write_text("a file stands here")
    try:
        result = machine.potluck("ask", "Hi")
        check_sentence(result, str(machine.home.root), "POTLUCK_HOME")
    finally:
        machine.home.root.unlink()


def test_a_broken_settings_file_says_the_place(machine: Machine) -> None:
    machine.home.prepare()
    machine.home.settings_file.write_text("[worker]\nslotz = 3\n")
    check_sentence(machine.potluck("ask", "Hi"), "worker.slotz", "slots")
    machine.home.settings_file.unlink()


def test_a_line_that_is_no_invitation_is_said_and_not_repeated(machine: Machine) -> None:
    result = machine.potluck("join", typed="potluck1/worker/secret-but-wrong")
    check_sentence(result, "damaged", "potluck invite")
    assert "secret-but-wrong" not in result.stderr
    check_sentence(machine.potluck("join", typed="hello"), "potluck1/")
    check_sentence(machine.potluck("join"), "potluck join")


def test_an_address_that_is_none_is_said(machine: Machine) -> None:
    check_sentence(machine.potluck("nodes", "add", "host:port"), "HOST:PORT")
    check_sentence(machine.potluck("nodes", "add", "ssh://-oProxyCommand=x"), "USER@HOST")
    check_sentence(machine.potluck("--ssh=-oProxyCommand=x", "nodes"), "USER@HOST")
    check_sentence(machine.potluck("nodes", "remove", "nobody"), "'nobody'")


def test_keys_that_others_can_read_are_refused_with_what_to_do(machine: Machine) -> None:
    assert machine.potluck("invite").returncode == 0
    machine.potluck("down")
    machine.home.authority_file.chmod(0o644)
    check_sentence(machine.potluck("invite"), "open to other users", "chmod 600")
    machine.home.authority_file.chmod(0o600)


def test_a_terminal_that_can_show_nothing_is_refused_in_words(machine: Machine) -> None:
    controller, terminal = pty.openpty()
    try:
        result = subprocess.run(
            [POTLUCK],
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
            env=machine.environment | {"TERM": "dumb"},
            timeout=30,
            check=False,
        )
    finally:
        os.close(controller)
        os.close(terminal)
    check_sentence(result, "TERM", "potluck ask")


def test_letters_that_the_output_has_none_of_are_question_marks(machine: Machine) -> None:
    machine.add_fake_model("plain", text="Grüße")
    result = subprocess.run(
        [POTLUCK, "ask", "-m", "plain", "Hi"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=machine.environment | {"PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "Gr??e\n")
