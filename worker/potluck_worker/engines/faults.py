"""What can go wrong in an engine's process, on demand: for the fake engine."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from typing import Literal, Never

Crash = Literal["abort", "segfault", "exit", "exception", "memory_error", "memory"]
"""`exception` is one whose words quote the prompt; `memory` takes memory until it is killed."""

Stall = Literal["sleep", "deaf"]
"""`deaf` holds the interpreter's lock, as a long call of a careless library does: no other thread
runs either."""

MOST_MEMORY_BYTES = 2**30
"""Where nobody kills a process that takes memory, it stops here, as one that gets no more."""

_PIECE_BYTES = 2**24


def crash(how: Crash, words: str) -> Never:
    """End this process, or the step, badly."""
    match how:
        case "abort":
            print("GGML_ASSERT(fake) failed", file=sys.stderr, flush=True)
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "exception":
            raise ValueError(f"cannot go on with {words!r}")
        case "memory_error":
            raise MemoryError
        case "memory":
            taken: list[bytes] = []
            while len(taken) * _PIECE_BYTES < MOST_MEMORY_BYTES:
                taken.append(b"\1" * _PIECE_BYTES)
            raise MemoryError
    raise AssertionError("unreachable")


def stall(how: Stall) -> Never:
    """Never return."""
    libc = ctypes.PyDLL(None) if how == "deaf" else ctypes.CDLL(None)
    while True:
        libc.sleep(60)


def litter() -> None:
    """Leave a process and a temporary file behind."""
    tempfile.mkstemp()
    subprocess.Popen(["sleep", "3600"])
