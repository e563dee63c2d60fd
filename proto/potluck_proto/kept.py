"""What a daemon keeps between its runs: one value in a JSON file of the home."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from potluck_proto.home import write_private

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class KeptFile(Generic[Value]):
    """A value in a file. One that cannot be read is as good as none: the daemon starts without it.

    Args:
        path: The file.
        kind: What the value is; a file that says anything else cannot be read.
        what: The value in words, for the log.
    """

    def __init__(self, path: Path, kind: type[Value], what: str) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(kind)
        self._what = what

    def read(self) -> Value | None:
        """Return what is kept, `None` where there is nothing."""
        try:
            return self._decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("starting without the %s in %s: %s", self._what, self._path, error)
            return None

    def write(self, value: Value) -> None:
        """Replace what is kept, at once or not at all. Raises `OSError`."""
        write_private(self._path, msgspec.json.encode(value))
