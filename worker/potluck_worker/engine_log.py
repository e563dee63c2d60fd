"""The log of a model: what its engines print, and how they ended; it outlives them."""

from __future__ import annotations

import asyncio
import codecs
import logging
import os
import re
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path

from potluck_proto.errors import BadRequest

LOG_LIMIT_BYTES = 2**20
"""A log that grows longer becomes `NAME.log.1`, in the place of the one before it."""

LINE_LIMIT_CHARACTERS = 4096
READ_BYTES = 2**16
LAST_LINES = 100
"""Lines that are at hand when an engine dies."""

OURS = "--"
"""How lines start that the daemon writes among those of the engine."""

_PREFIX, _SUFFIX = "engine-", ".log"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class EngineLog:
    """Writes the log of one model; each line with the time at which it came.

    Args:
        path: From `engine_log_path`.
    """

    def __init__(self, path: Path) -> None:
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        """The newest lines, without their times."""
        self._handler = RotatingFileHandler(
            path,
            maxBytes=LOG_LIMIT_BYTES,
            backupCount=1,
            encoding="utf-8",
            errors="replace",
            delay=True,
        )
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%F %T"))

    def write(self, line: str) -> None:
        """Add a line. A disk that fails costs the line and nothing else."""
        # A bar of progress draws itself again and again on one line.
        shown = _COLOURS.sub("", line).rstrip().rpartition("\r")[2][:LINE_LIMIT_CHARACTERS]
        if shown:
            self.last.append(shown)
            self._handler.emit(logging.makeLogRecord({"msg": shown}))

    async def keep(self, output: int) -> None:
        """Write what comes out of a pipe until its end, then close it."""
        reader = asyncio.StreamReader(READ_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb")
        )
        decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        try:
            while data := await reader.read(READ_BYTES):
                *lines, rest = (rest + decoder.decode(data)).split("\n")
                for line in lines:
                    self.write(line)
                if len(rest) > LINE_LIMIT_CHARACTERS:
                    self.write(rest)
                    rest = ""
        finally:
            self.write(rest)
            transport.close()

    def close(self) -> None:
        """Close the file; another line opens it again."""
        self._handler.close()


def engine_log_path(logs: Path, name: str, quantization: str) -> Path:
    """Return the log of a model."""
    label = f"{name}@{quantization}" if quantization else name
    return logs / f"{_PREFIX}{label}{_SUFFIX}"


def logged_models(logs: Path) -> list[str]:
    """Return the models that have a log, as `name:quantization`, sorted."""
    return sorted(map(_label, logs.glob(f"{_PREFIX}*{_SUFFIX}")))


def find_engine_log(logs: Path, name: str, quantization: str) -> Path:
    """Return the log of a model; without a quantization, the one that was written to last.

    Raises `BadRequest` where there is none.
    """
    wanted = f"{name}:{quantization}".lower().removesuffix(":")
    found = [
        path
        for path in logs.glob(f"{_PREFIX}*{_SUFFIX}")
        if wanted in (_label(path).lower(), _label(path).lower().partition(":")[0])
    ]
    if not found:
        there = ", ".join(logged_models(logs)) or "none"
        raise BadRequest(
            f"{wanted} has no log on this node, as it was not loaded here. There are: {there}."
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def _label(path: Path) -> str:
    return path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX).replace("@", ":")
