"""llama.cpp's log, which alone says why something failed, and some more."""

from __future__ import annotations

import ctypes
import re
import sys
from collections import deque
from typing import ClassVar

from llama_cpp import llama_cpp as api

LEVEL_DEBUG = 1
LEVEL_ERROR = 4
LEVEL_CONTINUED = 5

_SIZE = re.compile(r"(LoRA|RS|output) (?:buffer )?size\s*=\s*([\d.]+) MiB")
_WHERE = re.compile(r"^(?:\w+: |error loading model[ \w]*: )+")
_SAID = re.compile(r"general\.(architecture|type) +str += (.+)")
_FLASH_ATTENTION = re.compile(
    r"(?:flash_attn\s*=|Flash Attention(?: not supported, set to)?) (enabled|disabled)"
)
_TOTAL_KV = re.compile(r"llama_kv_cache\w*: size\s*=\s*([\d.]+) MiB \(\s*(\d+) cells")


class Log:
    """Listens to llama.cpp; writes what matters to stderr, which the daemon keeps in a file.

    Attributes:
        errors: The last lines that said what went wrong.
        said: What the file that was read last says it is: its `architecture` and `type`.
        flash_attention: Whether the context that was made last uses it.
    """

    _listening: ClassVar[Log | None] = None
    """Kept here, since llama.cpp calls the last log that was made for as long as the process lives:
    one that was collected as garbage would crash it at the next line."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.said: dict[str, str] = {}
        self.flash_attention = False
        self._bytes: dict[str, float] = {}
        self._last_cache = 0.0, 1
        self._level = LEVEL_DEBUG
        self._callback = api.llama_log_callback(self._receive)
        api.llama_log_set(self._callback, ctypes.c_void_p(0))
        Log._listening = self

    def _receive(self, level: int, text: bytes, _data: object) -> None:
        if level != LEVEL_CONTINUED:
            self._level = level
        if self._level <= LEVEL_DEBUG:
            return
        line = text.decode(errors="replace")
        sys.stderr.write(line)
        if self._level >= LEVEL_ERROR:
            self.errors.append(line.strip())
        if match := _TOTAL_KV.search(line):
            self._last_cache = float(match[1]) * 2**20, int(match[2])
        elif match := _SIZE.search(line):
            self._add(match[1], match[2])
        elif match := _SAID.search(line):
            self.said[match[1]] = match[2].strip()
        elif match := _FLASH_ATTENTION.search(line):
            self.flash_attention = match[1] == "enabled"

    def _add(self, kind: str, mebibytes: str) -> None:
        self._bytes[kind] = self._bytes.get(kind, 0.0) + float(mebibytes) * 2**20

    @property
    def adapters_bytes(self) -> int:
        """Buffers of LoRA adapters since the process started."""
        return int(self._bytes.get("LoRA", 0))

    @property
    def output_bytes(self) -> int:
        """The buffer of logits of the context that was made last."""
        return int(self._bytes.get("output", 0))

    def sequence_bytes(self, sequences: int, window: int) -> int:
        """Return what a sequence has that cannot be cut: its state, or a window of so many tokens.

        Of the caches of a model with windows, that of the windows is made last.
        """
        size_bytes, cells = self._last_cache
        return int(self._bytes.get("RS", 0) / sequences + window * size_bytes / cells)

    @property
    def reason(self) -> str:
        """Why the library refused a file, without the names of its functions."""
        if not self.errors:
            return "no reason given"
        reason = _WHERE.sub("", self.errors[0])[:300].rstrip(".")
        # It may quote what the file says.
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in reason)

    def listen_anew(self) -> None:
        """Forget what was said of another file."""
        self.errors.clear()
        self.said.clear()

    def listen_to_context(self) -> None:
        """Forget what was said of another context."""
        self.errors.clear()
        self._last_cache = 0.0, 1
        self._bytes.pop("RS", None)
        self._bytes.pop("output", None)
