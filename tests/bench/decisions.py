"""How long the core takes to decide, with 1,000 nodes and 10,000 requests that wait.

A part of `make bench`. Each event is timed by itself, with the garbage collector as it is.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import defaultdict
from dataclasses import replace

import psutil

from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.events import (
    Dispatch,
    Event,
    Instruction,
    Load,
    LoadFinished,
    NodeUpdated,
    RequestEnded,
    RequestSubmitted,
    TimePassed,
)
from potluck_scheduler.core.model import Loaded, Model, ModelKey, Node, Request
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.core.state import Limits

GIB = 2**30
NODES = 1_000
QUEUED = 10_000
MODELS = 40
FILES = 10
"""Models that each node has."""

SLOTS = 4
CLIENTS = 100
EVENTS = 20_000
HEARTBEATS = 4
"""Heartbeats for each answer that ends."""


class Fleet:
    """A core under load, and the time that its events took.

    Args:
        seed: Of all that is random.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.core = Scheduler(limits=Limits(queued=2 * QUEUED))
        self.now = 0.0
        self.count = 0
        self.placed: list[GenerationId] = []
        self.seconds: dict[str, list[float]] = defaultdict(list)
        keys = [ModelKey(f"model-{number}", "Q4_K_M") for number in range(MODELS)]
        self.nodes = [
            self._node(number, self.chance.sample(keys, FILES)) for number in range(NODES)
        ]

    def _node(self, number: int, keys: list[ModelKey]) -> Node:
        files = tuple(
            Model(
                key,
                file_bytes=4 * GIB,
                memory_needed_bytes=5 * GIB,
                slots=SLOTS,
                engines=("llama",),
            )
            for key in keys
        )
        held = tuple(Loaded(key, SLOTS, memory_bytes=5 * GIB) for key in keys[:2])
        return Node(NodeId(f"node-{number}"), f"node-{number}", files, held, 2 * GIB, 16 * GIB)

    def tell(self, event: Event) -> list[Instruction]:
        """Tell the core what happened; note how long it took."""
        self.now += 0.0001
        started = time.process_time()
        said = self.core.handle(event, self.now)
        self.seconds[type(event).__name__].append(time.process_time() - started)
        for each in said:
            if isinstance(each, Dispatch):
                self.placed.append(each.generation_id)
            elif isinstance(each, Load):
                self.tell(LoadFinished(each.node_id, each.key, 1.0))
        return said

    def submit(self) -> None:
        """Have somebody ask."""
        self.count += 1
        request = Request(
            GenerationId(str(self.count)),
            f"model-{self.chance.randrange(MODELS)}",
            client=f"client-{self.chance.randrange(CLIENTS)}",
            context_tokens=self.chance.choice([100, 2_000]),
            prompt_tokens=500,
            prefix=tuple(self.chance.getrandbits(60) for _ in range(8)),
        )
        self.tell(RequestSubmitted(request))

    def end(self) -> None:
        """Have an answer end; another takes its place."""
        at = self.chance.randrange(len(self.placed))
        self.placed[at], self.placed[-1] = self.placed[-1], self.placed[at]
        self.tell(RequestEnded(self.placed.pop(), 200, ()))

    def beat(self) -> None:
        """Have a node say how it is: a little less memory than before, or more."""
        at = self.chance.randrange(NODES)
        free = self.chance.randrange(GIB, 3 * GIB)
        self.nodes[at] = replace(self.nodes[at], memory_free_bytes=free)
        self.tell(NodeUpdated(self.nodes[at]))


def main() -> None:
    """Print the rows."""
    memory = psutil.Process().memory_info().rss
    fleet = Fleet(1)
    for node in fleet.nodes:
        fleet.tell(NodeUpdated(node))
    while fleet.core.queued < QUEUED:
        fleet.submit()
    memory = psutil.Process().memory_info().rss - memory
    fleet.seconds.clear()
    for _ in range(EVENTS // (HEARTBEATS + 2)):
        fleet.end()
        fleet.submit()
        for _ in range(HEARTBEATS):
            fleet.beat()
        if fleet.count % 50 == 0:
            fleet.tell(TimePassed())
    everything = [seconds for each in fleet.seconds.values() for seconds in each]
    title = f"decisions, {NODES:,} nodes, {fleet.core.queued:,} queued, {memory / 2**20:.0f} MiB"
    print(f"{title:<62} {'p50':>9} {'p99':>9} {'most':>9} ms")
    for name, seconds in [*sorted(fleet.seconds.items()), ("all events", everything)]:
        cuts = statistics.quantiles(seconds, n=100)
        figures = (cuts[49], cuts[98], max(seconds))
        print(f"  {name:<60} " + " ".join(f"{1000 * figure:>9.3f}" for figure in figures))


if __name__ == "__main__":
    main()
