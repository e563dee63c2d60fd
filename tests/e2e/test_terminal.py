from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from e2e.conftest import POTLUCK, Machine

WAIT_SECONDS = 30.0
WORDS = [f"word{number}" for number in range(60)]


class Terminal:
    """A terminal of 80 columns and 24 lines, played by tmux."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._environment = machine.environment | {"SHELL": "/bin/sh"}
        self._socket = str(folder / f"tmux-{uuid.uuid4().hex[:6]}")
        self._tmux("new-session", "-d", "-x", "80", "-y", "24", "exec /bin/sh")
        self._tmux("set-option", "-g", "status", "off")

    def _tmux(self, *arguments: str) -> str:
        tmux = shutil.which("tmux")
        assert tmux, "these tests need tmux"
        return subprocess.run(
            [tmux, "-f", "/dev/null", "-S", self._socket, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=self._environment,
        ).stdout

    def screen(self) -> str:
        """Return what stands on the screen."""
        return self._tmux("capture-pane", "-p")

    def type(self, text: str, *keys: str) -> None:
        """Type text, then press keys by tmux's names."""
        self._tmux("send-keys", "-l", text)
        for key in keys:
            self._tmux("send-keys", key)

    def until(self, condition: Callable[[str], bool]) -> str:
        """Wait until the screen is as it should be; return it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition(screen := self.screen()):
            assert time.monotonic() < deadline, f"the screen stayed:\n{screen}"
            time.sleep(0.05)  # between two looks at the condition
        return screen

    def program(self) -> psutil.Process:
        """Return the `potluck` that runs in it."""
        shell = psutil.Process(int(self._tmux("display-message", "-p", "#{pane_pid}")))
        return next(p for p in shell.children() if any("potluck" in word for word in p.cmdline()))

    def kill(self) -> None:
        """Kill `potluck` as hard as can be, and open a new terminal in place of the broken one."""
        os.kill(self.program().pid, signal.SIGKILL)
        self._tmux("respawn-pane", "-k", "exec /bin/sh")

    def close(self) -> None:
        """End the terminal and what runs in it."""
        self._tmux("kill-server")


@pytest.fixture
def terminal(machine: Machine, short_tmp: Path) -> Iterator[Terminal]:
    machine.home.prepare()
    terminal = Terminal(machine, short_tmp)
    yield terminal
    terminal.close()


def is_ready(screen: str) -> bool:
    return "1 node ready" in screen


def test_a_newcomer_types_one_command_and_chats(terminal: Terminal) -> None:
    terminal.type(str(POTLUCK), "Enter")
    welcome = terminal.until(lambda screen: is_ready(screen) and "starter model" in screen)
    assert "models" in welcome
    terminal.type("What is quantization?", "Enter")
    answered = terminal.until(lambda screen: "tokens/s" in screen)
    assert "bits" in answered
    assert "loaded now" in answered
    assert all(len(line) <= 80 for line in answered.splitlines())
    terminal.type("", "C-q")
    terminal.until(lambda screen: "$ " in screen or "# " in screen)


def test_a_killed_terminal_finds_its_answer_again(machine: Machine, terminal: Terminal) -> None:
    text = " ".join(WORDS)
    machine.add_fake_model("slow", text=text, tokens_per_second=15)
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("Hello", "Enter")
    terminal.until(lambda screen: "word10" in screen)
    terminal.kill()
    terminal.type(str(POTLUCK), "Enter")
    again = terminal.until(lambda screen: "word10" in screen)
    assert "Hello" in again
    done = terminal.until(lambda screen: "tokens/s" in screen)
    assert [word for word in done.split() if word.startswith("word")] == WORDS


def test_what_was_typed_and_not_sent_is_there_after_a_kill(terminal: Terminal) -> None:
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("a thought that is not finis")
    terminal.until(lambda screen: "not finis" in screen)
    drafts = Path(terminal.program().environ()["POTLUCK_HOME"]) / "drafts.json"
    terminal.until(lambda _: drafts.exists() and "not finis" in drafts.read_text())
    terminal.kill()
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(lambda screen: is_ready(screen) and "a thought that is not finis" in screen)


def test_escape_twice_stops_an_answer_and_once_does_not(
    machine: Machine, terminal: Terminal
) -> None:
    machine.add_fake_model("slow", text=" ".join(WORDS), tokens_per_second=15)
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("Hello", "Enter")
    terminal.until(lambda screen: "word5" in screen)
    terminal.type("", "Escape")
    terminal.until(lambda screen: "word12" in screen)
    terminal.type("", "Escape", "Escape")
    stopped = terminal.until(lambda screen: "stopped" in screen.lower())
    assert WORDS[-1] not in stopped
