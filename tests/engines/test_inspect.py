from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from engines.asking import ask, described, planned, question
from engines.driving import STARTER
from potluck_worker.engines.sizing import HOST, Options


def options(context_length: int = 512, slots: int = 2) -> Options:
    return Options(context_length, slots, "f16")


def test_a_file_says_what_it_is() -> None:
    found = described(STARTER, options()).inspection
    assert found.architecture == "llama"
    assert found.quantization == "Q8_0"
    assert found.licence.id == "mit"
    assert found.has_chat_template
    assert 8.4 < found.bits_per_weight < 8.6


def test_the_dry_run_knows_what_the_context_takes() -> None:
    short, long = (planned(STARTER, options(length)).estimate.on(HOST) for length in (256, 512))
    assert long.kv_cache_bytes == 2 * short.kv_cache_bytes > 0
    assert long.weights_bytes == short.weights_bytes > 2 * 2**20


def test_a_context_beyond_the_training_is_cut_to_it() -> None:
    found = described(STARTER, options(10**6))
    assert found.plan.estimate.options.context_length == found.inspection.training_context_length


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"nonsense")
    failure = ask("describe", path, options())["failure"]
    assert "x.gguf is not a GGUF" in failure["message"]


def test_a_cache_that_a_model_cannot_have_is_refused_with_what_it_can(tmp_path: Path) -> None:
    failure = ask("plan", STARTER, Options(512, 1, "q8_0", flash_attention=False))["failure"]
    assert "V cache" in failure["message"]
    assert "f16" in failure["message"]


def test_an_inspection_ends_with_the_daemon_that_wanted_it(tmp_path: Path) -> None:
    path = tmp_path / "endless.fake.toml"
    os.mkfifo(path)  # whoever reads it waits
    with subprocess.Popen(
        [
            sys.executable,
            *("-m", "potluck_worker.inspect_host"),
            *("describe", question(path, options()), "--lifeline"),
        ],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as inspection:
        assert inspection.stdin is not None
        inspection.stdin.close()
        assert inspection.wait(20) == -signal.SIGKILL
