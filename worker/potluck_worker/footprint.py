"""What a process takes of main memory, and of nobody else's."""

from __future__ import annotations

from pathlib import Path

import psutil

PROC = Path("/proc")


def private_bytes(process_id: int) -> int:
    """Return the memory that would be free if a process ended, 0 for one that has.

    Files that it reads through its address space, such as libraries, are not in it: they are the
    system's cache, which is shared and given up when it is needed.
    """
    try:
        if PROC.exists():
            return _anonymous_bytes((PROC / str(process_id) / "status").read_text())
        process = psutil.Process(process_id)
        return int(getattr(process.memory_full_info(), "uss", process.memory_info().rss))
    except (OSError, psutil.Error):
        return 0


def _anonymous_bytes(status: str) -> int:
    """Return what `/proc/PID/status` says is backed by no file; a process that ends has none."""
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    sizes = (lines.get(name, "0 kB").split()[0] for name in ("RssAnon", "RssShmem"))
    return 1024 * sum(map(int, sizes))
