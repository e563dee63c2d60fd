"""Reading logs that grow and are rotated, as both daemons keep them.

Consistency: a reader gets the last lines, then each line that comes after them exactly once and in
order. Its place is an offset in a file that it holds open, so a rotation, which renames the file,
neither loses nor doubles a line; only a second one within `FOLLOW_SECONDS` loses the file between.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

FOLLOW_SECONDS = 0.3
"""How soon a reader sees a new line."""

DEFAULT_LINES = 100
LINES_LIMIT = 10_000
"""The most lines that a reader gets from before it came."""

LINES_TOGETHER = 500
"""Lines of one message: with long ones they stay far below what gRPC takes."""

LINE_BYTES = 4096
"""What a line is thought to take at most when its beginning is looked for."""


class LogTail:
    """A place in a log.

    Args:
        path: The log; older lines are in `PATH.1`. It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def last(self, count: int) -> list[str]:
        """Return the last lines up to now; `new` goes on after them."""
        self._open()
        lines = deque(self._take(count * LINE_BYTES), maxlen=count)
        if len(lines) < count:
            lines.extendleft(islice(reversed(self._older(count)), count - len(lines)))
        return list(lines)

    def new(self) -> list[str]:
        """Return the lines that came since the last call."""
        if self._file is None:
            self._open()
            return self._take()
        # Asked first: what was written before the rotation is in the file that is open.
        rotated = self._is_rotated()
        lines = self._take()
        if rotated:
            self.close()
            self._open()
            lines += self._take()
        return lines

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            self._file = None

    def _is_rotated(self) -> bool:
        assert self._file is not None
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False  # between the renaming and the first line of the new file

    def _take(self, last_bytes: int | None = None) -> list[str]:
        """Return the whole lines from the place on, or of the last bytes; keep what is no line."""
        if self._file is None:
            return []
        if last_bytes is not None:
            _seek_line(self._file, last_bytes)
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return _decoded(lines)

    def _older(self, count: int) -> list[str]:
        """Return lines from before the last rotation."""
        try:
            with self._path.with_name(f"{self._path.name}.1").open("rb") as file:
                if self._file and os.path.sameopenfile(file.fileno(), self._file.fileno()):
                    return []  # rotated just now: these are the lines that there are already
                _seek_line(file, count * LINE_BYTES)
                return _decoded(file.read().split(b"\n")[:-1])
        except FileNotFoundError:
            return []


def _decoded(lines: list[bytes]) -> list[str]:
    return [line.decode(errors="replace") for line in lines]


def _seek_line(file: BinaryIO, last_bytes: int) -> None:
    """Go to the first line that begins within the last bytes of a file."""
    start = file.seek(0, os.SEEK_END) - last_bytes
    file.seek(max(0, start))
    if start > 0:
        file.readline()


async def read_log(path: Path, lines: int, follow: bool) -> AsyncIterator[list[str]]:
    """Yield the last lines of a log, at least an empty list; then new ones, where asked to follow.

    Args:
        path: The log.
        lines: How many; 0 is `DEFAULT_LINES`.
        follow: Go on until the caller leaves.
    """
    tail = LogTail(path)
    try:
        shown = await asyncio.to_thread(tail.last, min(lines or DEFAULT_LINES, LINES_LIMIT))
        yield shown[:LINES_TOGETHER]
        rest = shown[LINES_TOGETHER:]
        while True:
            for start in range(0, len(rest), LINES_TOGETHER):
                yield rest[start : start + LINES_TOGETHER]
            if not follow:
                return
            await asyncio.sleep(FOLLOW_SECONDS)
            rest = await asyncio.to_thread(tail.new)
    finally:
        tail.close()
