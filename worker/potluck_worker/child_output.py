"""What a child says that answers one thing and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


async def output_of(command: Sequence[str | Path], limit_seconds: float) -> bytes:
    """Run a command; return what it prints to standard output.

    Its standard input is a pipe that stays open until this returns: a child that waits for the end
    of it, as `child.py` does, is gone then, with all that it has started.

    Raises:
        OSError: It cannot be started.
        TimeoutError: It did not end in time.
    """
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(limit_seconds):
            return await child.stdout.read()
    finally:
        child.stdin.close()
        with suppress(ProcessLookupError):
            child.kill()  # it may not have come to reading that
        await child.wait()
