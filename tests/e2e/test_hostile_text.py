from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import POTLUCK, Machine
from potluck_proto.home import Home

HOSTILE = "before \x1b]52;c;eA==\x07\x1b[2J\x9b2J\x00\x08\r \u202egnp.exe\u2028 after"
"""Writes to the clipboard, clears the screen, turns the reading order round."""

TOML = "".join(f"\\u{ord(letter):04x}" for letter in HOSTILE)
NAME = "evil\x1b[2J\x9b\u202e"


def on_a_terminal(machine: Machine, *arguments: str) -> str:
    """Run `potluck` with a terminal as its output; return what came to that."""
    controller, terminal = pty.openpty()
    seen = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(controller, 65_536):
                seen.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        subprocess.run(
            [POTLUCK, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env=machine.environment,
            timeout=60,
            check=False,
        )
    finally:
        os.close(terminal)
        reader.join()
        os.close(controller)
    return seen.decode()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Yield a machine with hostile models, whose files are called in a hostile way."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        machine = Machine(Home(Path(folder) / "home"))
        machine.home.prepare()
        for name in ("plain", NAME):
            (machine.home.models / f"{name}.fake.toml").write_text(f'text = "{TOML}"')
        (machine.home.models / f"broken-{NAME}.gguf").write_bytes(b"not a model at all")
        yield machine
        machine.potluck("down")
        assert not machine.processes()


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "-m", "plain", "Hi"),
        ("ask", "-m", NAME, "Hi"),
        ("ask", "-m", "\x1b[2J", "Hi"),
        ("models",),
        ("nodes",),
        ("logs", NAME),
        ("logs", "--scheduler"),
        ("nodes", "remove", "\x1b[2J"),
    ],
    ids=["answer", "model", "unknown", "models", "nodes", "log", "scheduler", "remove"],
)
def test_nothing_that_acts_reaches_a_terminal(machine: Machine, arguments: tuple[str, ...]) -> None:
    shown = on_a_terminal(machine, *arguments)
    assert shown
    for letter in shown:
        assert letter in "\r\n\t" or letter.isprintable() or letter == "\u3000", repr(shown)


def test_an_answer_on_a_terminal_shows_all_that_does_not_act(machine: Machine) -> None:
    shown = on_a_terminal(machine, "ask", "-m", "plain", "Hi")
    assert "before \ufffd]52;c;eA==\ufffd\ufffd[2J\ufffd2J" in shown
    assert "after" in shown


def test_an_answer_in_a_pipe_is_as_the_model_gave_it(machine: Machine) -> None:
    answer = subprocess.run(
        [POTLUCK, "ask", "-m", "plain", "Hi"],
        capture_output=True,
        env=machine.environment,
        timeout=60,
        check=True,
    )
    assert answer.stdout.decode() == HOSTILE + "\n"
