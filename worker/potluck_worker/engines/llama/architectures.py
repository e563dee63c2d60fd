"""Which architectures this llama.cpp knows.

It has no call that lists them, so it is shown files that hold nothing but the name of one: of an
unknown one it says so, of the others that more is missing.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path

from potluck_proto.errors import ModelFileError, UnsupportedModel
from potluck_worker.engines.llama.library import GGUF_MAGIC, Model
from potluck_worker.engines.llama.log import Log

_VERSION = 3
_TEXT = 8


def known(names: Iterable[str], log: Log) -> list[str]:
    """Return those architectures that llama.cpp knows.

    Args:
        names: As GGUF files call them.
        log: The library's.
    """
    with tempfile.TemporaryDirectory(prefix="potluck-") as folder:
        file = Path(folder, "nothing.gguf")
        return [name for name in names if _knows(name, file, log)]


def _knows(name: str, file: Path, log: Log) -> bool:
    file.write_bytes(_header(name))
    try:
        Model(file, log, vocabulary_only=True)
    except UnsupportedModel:
        return False
    except ModelFileError:
        return True
    return True


def _header(architecture: str) -> bytes:
    """Return a GGUF file without tensors that says its architecture and nothing else."""
    texts = [_text("general.architecture"), struct.pack("<I", _TEXT), _text(architecture)]
    return b"".join([GGUF_MAGIC, struct.pack("<IQQ", _VERSION, 0, 1), *texts])


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
