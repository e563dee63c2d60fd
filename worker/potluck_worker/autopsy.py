"""How an engine's process ended, in words."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from potluck_proto.errors import EngineDied
from potluck_worker.engine_log import OURS
from potluck_worker.hardware import measure_memory

LINES_SHOWN = 3
SHOWN_CHARACTERS = 400

MEMORY_ADVICE = (
    "Take a smaller quantization, context_length or slots, or close other programs, and ask again."
)

VMSTAT = Path("/proc/vmstat")
"""Counts the processes that Linux killed for want of memory, of all containers."""

_SIGNALS = {signal.SIGABRT: "aborted (SIGABRT)", signal.SIGSEGV: "crashed (SIGSEGV)"}

_OUT_OF_MEMORY = re.compile(
    r"MemoryError|bad_alloc|out of memory|OutOfMemory|failed to allocate|cannot allocate", re.I
)
"""What Python, C++, CUDA and ggml say when they get no more."""


@dataclass(frozen=True, slots=True)
class Look:
    """A child and the machine's memory at one moment."""

    resident_bytes: int = 0
    """What the child held."""
    free_bytes: int = 0
    total_bytes: int = 0
    oom_kills: int = 0
    """Processes that the kernel has killed for want of memory since it started."""

    def __str__(self) -> str:
        gib = 2**30
        return (
            f"it held {self.resident_bytes / gib:.1f} GiB when last seen, with "
            f"{self.free_bytes / gib:.1f} of {self.total_bytes / gib:.1f} GiB free"
        )


def look(process_id: int) -> Look:
    """Look at a child; nothing is seen of one that is gone."""
    try:
        resident_bytes = psutil.Process(process_id).memory_info().rss
    except psutil.Error:
        resident_bytes = 0
    memory = measure_memory()
    return Look(resident_bytes, memory.free_bytes, memory.total_bytes, _oom_kills())


def find(code: int, garbage: str, last_lines: Sequence[str], last_look: Look) -> EngineDied:
    """Say how a child ended.

    Args:
        code: Its exit code; a signal's number below 0.
        garbage: What it sent, where it was killed for that.
        last_lines: The last that it printed.
        last_look: At a moment when it was alive.
    """
    words = _last_words(last_lines)
    advice, said = "Ask again; it starts afresh.", f" Its last words: {words}" if words else ""
    if garbage:
        how = f"sent what no engine may send and was stopped: {garbage}"
    elif code == -signal.SIGKILL:
        # What a killed process printed has nothing to do with its end.
        how, said = f"was killed (SIGKILL), perhaps because memory ran out; {last_look}", ""
        if _oom_kills() > last_look.oom_kills:
            how = f"was killed by the kernel (SIGKILL) because memory ran out; {last_look}"
            advice = MEMORY_ADVICE
    elif _OUT_OF_MEMORY.search(words):
        how, advice = f"{_ended(code)}, probably because memory ran out; {last_look}", MEMORY_ADVICE
    else:
        how = _ended(code)
    return EngineDied(
        f"The engine {how}. {advice}{said}",
        exit_code=code,
        memory_bytes=last_look.resident_bytes,
    )


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"ended by signal {-code}"
    return _SIGNALS.get(number, f"ended by {number.name}")


def _last_words(lines: Sequence[str]) -> str:
    """Return the lines that say why: the last, or those before Python's own list of its calls."""
    lines = [line for line in lines if line.strip(" .") and not line.startswith(OURS)]
    for number, line in enumerate(lines):
        if line.startswith("Fatal Python error"):
            lines = lines[:number]
            break
    return " | ".join(lines[-LINES_SHOWN:])[-SHOWN_CHARACTERS:]


def _oom_kills() -> int:
    try:
        found = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
