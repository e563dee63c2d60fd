"""A thousand moves: what breaks in a house, and what becomes of the answers. Part of `make bench`.

`python tests/bench/moves.py [MOVES] [SCHEDULER_KILLS]`, with `PYTHONPATH=tests`. Needs root for
network namespaces. Eight people ask all the time; machines are killed, frozen, cut off and drained.
Each answer is compared with what it would have been, and the time without a word is taken.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from e2e.house import Report, break_things, house_of, people

MOVES = 1_000
SCHEDULER_KILLS = 100


async def measure_moves(moves: int, root: Path) -> None:
    """Let machines break until so many answers moved."""
    report, done, chance = Report(), asyncio.Event(), random.Random(1)
    async with house_of(4, root) as house:
        asking = asyncio.create_task(people(house, report, chance, 8, done))
        await break_things(house, report, chance, moves)
        done.set()
        await asking
    report.print()


async def measure_scheduler_kills(kills: int, root: Path) -> None:
    """Kill the scheduler so many times in mid-answer."""
    report, done, chance = Report(), asyncio.Event(), random.Random(2)
    async with house_of(2, root) as house:
        asking = asyncio.create_task(people(house, report, chance, 8, done))
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.1, 1.5))
            house.scheduler.kill()
            house.scheduler.start()
            report.faults["scheduler killed"] += 1
            await house.until_ready(2)
        done.set()
        await asking
    report.print()


def main() -> None:
    """Print what came of it."""
    if os.geteuid() != 0:
        print("moves: skipped, as network namespaces need root")
        return
    moves, kills = [*map(int, sys.argv[1:]), *(MOVES, SCHEDULER_KILLS)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        asyncio.run(measure_moves(moves, Path(folder) / "m"))
        asyncio.run(measure_scheduler_kills(kills, Path(folder) / "s"))


if __name__ == "__main__":
    main()
