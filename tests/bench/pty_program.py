"""A program in a pty of 80 columns and 24 lines, watched from outside: bytes, CPU time, echoes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

COLUMNS, LINES = 80, 24


class PtyProgram:
    """A program that believes to have a terminal.

    Args:
        command: What to run.
        environment: All of it.
        folder: Where it runs.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=folder
        )
        os.close(slave)
        self.written = bytearray()
        """All that it wrote."""

    def read(self, seconds: float) -> bytes:
        """Return what comes within some time, as soon as anything does."""
        if not select.select([self._master], [], [], max(0.0, seconds))[0]:
            return b""
        try:
            came = os.read(self._master, 65536)
        except OSError:  # it ended
            return b""
        self.written += came
        return came

    def read_for(self, seconds: float) -> int:
        """Read for some time; return how many bytes came."""
        before, deadline = len(self.written), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.read(left)
        return len(self.written) - before

    def read_until(
        self, condition: Callable[[bytes], bool], limit_seconds: float, since: int = 0
    ) -> float:
        """Read until what came fulfils a condition; return when, by the monotonic clock.

        Raises `TimeoutError`.
        """
        deadline = time.monotonic() + limit_seconds
        while not condition(bytes(self.written[since:])):
            if time.monotonic() > deadline:
                raise TimeoutError(bytes(self.written[-400:]))
            self.read(deadline - time.monotonic())
        return time.monotonic()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    @property
    def process_id(self) -> int:
        """The program's process."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken."""
        fields = Path(f"/proc/{self.process_id}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Return the memory that it holds."""
        pages = int(Path(f"/proc/{self.process_id}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)
