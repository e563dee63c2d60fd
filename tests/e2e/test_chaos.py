from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from e2e.house import Report, break_things, house_of, people

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

MOVES = 30
"""`tests/bench/moves.py` does a thousand."""

SCHEDULER_KILLS = 5


@pytest.mark.timeout(240)
async def test_whatever_breaks_every_answer_comes_whole_and_once(short_tmp: Path) -> None:
    report, done, chance = Report(), asyncio.Event(), random.Random(1)
    async with house_of(4, short_tmp) as house:
        asking = asyncio.create_task(people(house, report, chance, 8, done))
        await break_things(house, report, chance, MOVES)
        done.set()
        await asking
    assert report.moves.total() >= MOVES
    assert report.answers >= 8
    assert not report.wrong


@pytest.mark.timeout(240)
async def test_a_scheduler_that_is_killed_again_and_again_loses_no_answer(short_tmp: Path) -> None:
    report, done, chance = Report(), asyncio.Event(), random.Random(2)
    async with house_of(2, short_tmp) as house:
        asking = asyncio.create_task(people(house, report, chance, 4, done))
        for _ in range(SCHEDULER_KILLS):
            await asyncio.sleep(chance.uniform(0.3, 2.0))
            house.scheduler.kill()
            house.scheduler.start()
            await house.until_ready(2)
        done.set()
        await asking
    assert report.answers >= 4
    assert not report.wrong
