"""A terminal that a test types into and looks at."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

from e2e.conftest import Machine

WAIT_SECONDS = 30.0


class Terminal:
    """A terminal of 80 columns and 24 lines, played by tmux.

    Args:
        machine: Whose user sits at it.
        folder: For its socket.
        path: More folders where programs are found, before the others.
    """

    def __init__(self, machine: Machine, folder: Path, path: str = "") -> None:
        self._environment = machine.environment | {"SHELL": "/bin/sh"}
        if path:
            self._environment["PATH"] = f"{path}:{self._environment['PATH']}"
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

    @property
    def in_application_mode(self) -> bool:
        """Say whether a program has the whole screen, or asked to be told of the mouse."""
        return self._tmux("display-message", "-p", "#{alternate_on}#{mouse_any_flag}") != "00\n"

    def type(self, text: str, *keys: str) -> None:
        """Type text, then press keys by tmux's names."""
        self._tmux("send-keys", "-l", text)
        for key in keys:
            self._tmux("send-keys", key)

    def paste(self, text: str) -> None:
        """Paste text as terminals do that have been asked to mark what is pasted."""
        self._tmux("set-buffer", text)
        self._tmux("paste-buffer", "-p")

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
        """End the terminal and what runs in it; return when it is gone."""
        server = psutil.Process(int(self._tmux("display-message", "-p", "#{pid}")))
        self._tmux("kill-server")
        server.wait(WAIT_SECONDS)
