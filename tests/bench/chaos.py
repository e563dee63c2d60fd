"""`make chaos`: a house of paired workers in which all breaks for half an hour, and people who ask.

Workers are killed, frozen, cut off and drained, engines die, the scheduler is killed, the disk
fills up. At the end each answer must be whole and have come once, also llama.cpp's; no process may
be left, nothing may hold a file, and the scheduler may not have grown. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from e2e.house import House, Report, break_things, house_of, people, submit
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types

WORKERS = 4
PEOPLE = 8
MOVES_AT_ONCE = 10
DISK_MIB = 256
FULL_SECONDS = 3.0
EXTRA_SECONDS = (5.0, 20.0)
"""Between two troubles of the scheduler."""

HELD_LIMIT_BYTES = 256 * 2**20
"""What the scheduler may hold at the end."""

QUESTION = "Write me a long story about a house full of computers."


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Put a folder on a disk of its own; to take that away fails where a process holds a file."""
    size = f"size={DISK_MIB}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def fill_the_disk(folder: Path) -> None:
    """Leave no byte for a time."""
    rubbish = folder / "rubbish"
    with contextlib.suppress(OSError), rubbish.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**20))
    await asyncio.sleep(FULL_SECONDS)
    rubbish.unlink()


async def trouble_the_scheduler(
    house: House, report: Report, chance: random.Random, folder: Path
) -> None:
    """Kill the scheduler, or fill its disk, again and again."""
    while True:
        await asyncio.sleep(chance.uniform(*EXTRA_SECONDS))
        if chance.random() < 0.5:
            report.faults["kill the scheduler"] += 1
            house.scheduler.kill()
            house.scheduler.start()
            await house.until_there()
        else:
            report.faults["fill the disk"] += 1
            await fill_the_disk(folder)


async def ask_llama(house: House, report: Report, done: asyncio.Event) -> None:
    """Ask llama.cpp the same again and again; it must answer the same."""
    first, count = "", 0
    while not done.is_set():
        count += 1
        request = pb.SubmitRequest(
            content=QUESTION,
            model="potluck-starter",
            request_id=f"llama-{count}",
            sampling=types.Sampling(temperature=0),
        )
        submitted = await submit(house.client, request)
        text = ""
        async for event in house.client.attach(submitted.generation_id):
            if event is not None and event.HasField("delta"):
                text += event.delta.text
        report.answers += 1
        first = first or text
        if text != first:
            report.wrong.append(f"llama-{count}: {len(text)} of {len(first)} characters")


def scheduler_bytes(house: House) -> int:
    """Return what the scheduler holds."""
    return int(house.scheduler.family()[0].memory_info().rss)


def left_of(root: Path) -> list[str]:
    """Return the processes that still run with a home in a folder."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            home = process.environ().get("POTLUCK_HOME", "")
            if home.startswith(str(root)) and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(f"process {process.pid}: {' '.join(process.cmdline())[:80]}")
    return processes


async def chaos(minutes: float, seed: int, root: Path) -> bool:
    """Have all break for some minutes; say whether all held."""
    report, done, chance = Report(), asyncio.Event(), random.Random(seed)
    ends = time.monotonic() + 60 * minutes
    async with house_of(WORKERS, root) as house:
        asking = asyncio.create_task(people(house, report, chance, PEOPLE, done))
        llama = asyncio.create_task(ask_llama(house, report, done))
        troubles = asyncio.create_task(trouble_the_scheduler(house, report, chance, root))
        while time.monotonic() < ends:
            await break_things(house, report, chance, report.moves.total() + MOVES_AT_ONCE)
        troubles.cancel()
        await asyncio.gather(troubles, return_exceptions=True)
        (root / "rubbish").unlink(missing_ok=True)
        await house.until_ready(WORKERS)
        done.set()
        await asyncio.gather(asking, llama)
        held = scheduler_bytes(house)
    report.print()
    left = left_of(root)
    print(f"the scheduler held {held / 2**20:.0f} MiB; left: {', '.join(left) or 'nothing'}")
    return not report.wrong and not left and held < HELD_LIMIT_BYTES


def main() -> int:
    """Run it; return 1 where something did not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder, small_disk(Path(folder)) as root:
        held = asyncio.run(chaos(options.minutes, options.seed, root))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
