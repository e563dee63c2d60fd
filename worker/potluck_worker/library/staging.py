"""Folders in which models grow until they are whole, each by one hand at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from potluck_proto.errors import BadRequest, DiskFull
from potluck_proto.home import Home

if TYPE_CHECKING:
    from potluck_worker.library.hashes import Hashes
    from potluck_worker.models import ModelStore

DISK_MARGIN_BYTES = 2**29
"""What a model on its way here leaves free on the disk."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder, and hold it against others; the system lets go of it with the process.

    Raises:
        BadRequest: Another holds it: the same model is on its way here.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRequest("The same model is on its way here already.") from None
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Say whether something grows in a folder just now."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def require_disk(folder: Path, size_bytes: int, what: str) -> None:
    """Raise `DiskFull` where what is still to come of so many bytes does not fit.

    Args:
        folder: Where it grows, with what is there of it.
        size_bytes: Of all of it.
        what: It, for the message.
    """
    there = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    needed = max(0, size_bytes - there) + DISK_MARGIN_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{what} needs {needed / 2**30:.1f} GiB on the disk of {folder.parent}, with "
            f"{DISK_MARGIN_BYTES / 2**30:.1f} to spare, and {free / 2**30:.1f} are free. `potluck "
            "prune` and `potluck rm` make room.",
            needed_bytes=needed,
            free_bytes=free,
        )


async def take_in(
    home: Home,
    store: ModelStore,
    hashes: Hashes,
    *,
    staging: Path,
    folder: str,
    sha256: Mapping[str, str],
) -> None:
    """Put a model that is whole among those of the home, and delete the folder in which it grew.

    Args:
        home: Where models go.
        store: Lists it.
        hashes: Learns those of its files.
        staging: The folder in which it grew.
        folder: Its folder among the models, for a checkpoint; else empty.
        sha256: The hash of each of its files by name; empty where nobody knows it.
    """
    target = home.models / folder
    moves = [(staging, target)] if folder else [(staging / n, target / n) for n in sha256]
    await store.take_in([(source, place) for source, place in moves if source.exists()])
    hashes.learn({target / name: digest for name, digest in sha256.items() if digest})
    await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
