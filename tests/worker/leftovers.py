"""What a process holds, to be the same before and after."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SETTLING_SECONDS = 10.0
POOL = "asyncio_"
"""How the threads are called that the event loop keeps for blocking work."""


@dataclass(frozen=True)
class Held:
    """What can leak."""

    descriptors: int
    tasks: int
    threads: int
    processes: int
    scratch_folders: int


def held() -> Held:
    """Return what this process holds now."""
    process = psutil.Process()
    return Held(
        descriptors=process.num_fds(),
        tasks=len(asyncio.all_tasks()),
        threads=sum(not t.name.startswith(POOL) for t in threading.enumerate()),
        processes=len(process.children(recursive=True)),
        scratch_folders=len(list(Path(tempfile.gettempdir()).glob(f"potluck-{os.getpid()}-*"))),
    )


async def no_more_than(before: Held) -> None:
    """Wait until no more is held than before; closing takes gRPC and the kernel a moment."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        now = held()
        names = Held.__dataclass_fields__
        more = {name for name in names if getattr(now, name) > getattr(before, name)}
        if not more:
            return
        assert time.monotonic() < deadline, f"before: {before}, now: {now}"
        await asyncio.sleep(0.02)
