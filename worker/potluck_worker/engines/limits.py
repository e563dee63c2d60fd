"""A limit on the time and memory of code that follows a stranger's program."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

try:
    import resource
except ImportError:  # Windows has neither this nor timers.
    resource = None  # type: ignore[assignment]

MEMORY_BYTES = 2**30
"""What may be allocated while the limit holds; beyond, Python raises `MemoryError`."""


class OutOfTime(Exception):
    """The limited code took too long."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Run what is inside for `seconds` at most, with `MEMORY_BYTES` more than there are now.

    It bounds Python code, and single allocations in C; a single call in C that computes long is
    only interrupted after it. Works in the main thread of a Unix process, where the engine runs;
    elsewhere it bounds nothing.

    Raises:
        OutOfTime: Time is up.
    """
    if resource is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    running = True

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # Once the work is done it must not disturb the cleaning up.
        if running:
            raise OutOfTime(f"it takes longer than {seconds:g} seconds")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    timer = signal.getitimer(signal.ITIMER_REAL)
    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    try:
        try:
            # Again and again: some library may swallow the first.
            signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
            _limit_memory(limits)
            yield
        finally:
            running = False
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        if timer[0]:
            left = timer[0] - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), timer[1])


def _limit_memory(limits: tuple[int, int]) -> None:
    """Bound the process's address space, where the system counts it (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    if limits[0] == resource.RLIM_INFINITY or limit < limits[0]:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limits[1]))
