"""What people do in the simulator, and when machines come and go. The same for every policy."""

from __future__ import annotations

import random
from dataclasses import dataclass

from bench.simulator_world import Kind, ModelSpec

SMALL = ModelSpec("small-3b", 2.2)
MIDDLE = ModelSpec("middle-8b", 5.0)
LARGE = ModelSpec("large-14b", 9.0)
HUGE = ModelSpec("huge-32b", 19.0)
MIX = ((SMALL, 0.3), (MIDDLE, 0.45), (LARGE, 0.2), (HUGE, 0.05))
"""Models, and the part of the chats that use each."""

SYSTEM_TOKENS = 150


def kinds() -> list[tuple[str, Kind, tuple[ModelSpec, ...]]]:
    """Return a house of eight uneven machines, with the models that each has."""
    every = (SMALL, MIDDLE, LARGE, HUGE)
    return [
        ("gaming-pc", Kind("4090", "cuda", 24, 600, 0.08, 40, 2.0), every),
        ("mac", Kind("m2 max", "metal", 32, 300, 0.12, 15, 2.0), every),
        ("amd-box", Kind("7800 xt", "rocm", 16, 350, 0.08, 25, 1.0), every[:3]),
        ("old-gpu", Kind("1070", "cuda", 8, 180, 0.15, 12, 0.5), every[:2]),
        ("mini-pc", Kind("ddr5", "cpu", 32, 55, 0.45, 5, 1.0, 2), every[:3]),
        ("laptop", Kind("ddr5", "cpu", 16, 50, 0.5, 4, 1.0, 2), every[:2]),
        ("nas", Kind("ddr4", "cpu", 16, 30, 0.6, 4, 0.4, 2), every[:2]),
        ("old-laptop", Kind("ddr3", "cpu", 8, 18, 0.7, 3, 0.2, 1), every[:1]),
    ]


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and its answer, in tokens, and how long the person thinks before it."""

    prompt_tokens: int
    answer_tokens: int
    think_seconds: float


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation: its turns come one after the other, each when the one before was read."""

    number: int
    starts: float
    model: ModelSpec
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Outage:
    """A machine that is away for a time."""

    node: int
    since: float
    until: float


def chats(seed: int, per_second: float, seconds: float) -> list[Chat]:
    """Return the chats of a time: alone and in bursts, short and long, of each model.

    Args:
        seed: Of all that is random.
        per_second: Chats that begin, on average.
        seconds: How long.
    """
    chance = random.Random(seed)
    found: list[Chat] = []
    now = 0.0
    while True:
        burst = chance.random() < 0.1
        size = chance.randint(3, 6) if burst else 1
        now += chance.expovariate(per_second / 1.35)  # bursts bring a third more
        if now >= seconds:
            return found
        for _ in range(size):
            model = chance.choices([m for m, _ in MIX], [w for _, w in MIX])[0]
            turns = tuple(
                _turn(chance, first=n == 0) for n in range(chance.choice((1, 2, 4, 6, 8)))
            )
            found.append(Chat(len(found), now + chance.random() * 2, model, turns))


def _turn(chance: random.Random, *, first: bool) -> Turn:
    long = chance.random() < 0.15
    prompt = int(min(6_000, chance.lognormvariate(6.8 if long else 4.0, 0.7))) + 5
    answer = int(min(2_000, chance.lognormvariate(5.3, 0.7))) + 10
    return Turn(prompt + (SYSTEM_TOKENS if first else 0), answer, chance.expovariate(1 / 15) + 3)


def outages(seed: int, nodes: int, seconds: float, per_hour: float) -> list[Outage]:
    """Return when machines are away, each so often an hour and for one to five minutes."""
    chance = random.Random(seed)
    found = []
    for node in range(nodes):
        now = chance.expovariate(per_hour / 3600)
        while now < seconds:
            until = now + chance.uniform(60, 300)
            found.append(Outage(node, now, until))
            now = until + chance.expovariate(per_hour / 3600)
    return found
