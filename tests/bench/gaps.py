"""How long an answer is silent when its machine dies: the starter model, two workers.

A part of `make bench`. A worker is killed, or frozen with its engine, in mid-answer; what is
measured is the time from there to the next words. Each answer is compared with a whole one.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from e2e.conftest import Machine
from e2e.test_moves import LONG, STARTER, of_worker, pool_of_two
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.client import PoolClient

TIMES = 10
SAMPLINGS = {
    "greedy": types.Sampling(temperature=0),
    "seeded": types.Sampling(temperature=0.8, seed=7),
}

Break = Callable[[Machine], list[psutil.Process]]
"""Breaks a machine's worker; returns what has to be woken up again."""


def kill(machine: Machine) -> list[psutil.Process]:
    """Kill a worker, with its engines frozen, so that none of its words is under way."""
    worker, *children = of_worker(machine)
    for child in children:
        if "potluck_worker.engine_host" in child.cmdline():
            child.suspend()
    worker.kill()
    return []


def freeze(machine: Machine) -> list[psutil.Process]:
    """Freeze a worker and its engines."""
    processes = of_worker(machine)
    for process in reversed(processes):
        process.suspend()
    return processes


async def broken(
    client: PoolClient, sampling: types.Sampling, machines: dict[str, Machine], fault: Break | None
) -> tuple[str, float]:
    """Ask, and break the machine after the first words; return the answer and the longest gap."""
    request = pb.SubmitRequest(content=LONG, model=STARTER, sampling=sampling)
    submitted = await client.call(client.stub.Submit, request)
    text, node, at, gap = "", "", 0.0, 0.0
    frozen: list[psutil.Process] = []
    async for event in client.attach(submitted.generation_id):
        assert event is not None
        if event.HasField("head"):
            node = event.head.explanation.node_name
        elif event.HasField("placed"):
            node = event.placed.node_name
        elif event.HasField("delta"):
            text += event.delta.text
            if at and not gap:
                gap = time.perf_counter() - at
            elif fault is not None and not at:
                frozen = await asyncio.to_thread(fault, machines[node])
                at = time.perf_counter()
    for process in frozen:
        process.resume()
    return text, gap


async def measure(folder: Path) -> None:
    """Print the gaps."""
    machine = Machine(Home(folder / "home"))
    for fault in (kill, freeze):
        gaps, same = [], 0
        for number in range(TIMES):
            # A killed worker may come back elsewhere, so each time has a pool of its own.
            sampling = list(SAMPLINGS.values())[number % 2]
            async with pool_of_two(machine) as (client, machines):
                whole, _ = await broken(client, sampling, machines, None)
                moved, gap = await broken(client, sampling, machines, fault)
            await asyncio.to_thread(machine.potluck, "down")
            gaps.append(gap)
            same += moved == whole
        print(
            f"starter model, {fault.__name__} in mid-answer: next words after "
            f"{statistics.median(gaps):.2f} s, at most {max(gaps):.2f}; {same} of {TIMES} the same"
        )


def main() -> None:
    """Measure in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
