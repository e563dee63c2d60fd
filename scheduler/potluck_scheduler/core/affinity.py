"""Which seats know the beginning of a conversation, so that they need not read it again.

A conversation is known by hashes of its beginnings, each a block longer; of those, the whole and
every doubling is remembered. An engine drops what it knows when it needs the room, and tells
nobody: so this is a guess, good for `TTL_SECONDS`, and nothing but time depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import ModelKey

TTL_SECONDS = 300.0
"""How long a beginning is thought to be known."""

LEAST_MATCH = 0.3
"""A smaller part of the prompt is not worth a detour."""

BLOCKS_KEPT = 262_144
"""Beginnings that are remembered, at most: the oldest go first."""

SEATS_KEPT = 4
"""Seats that are remembered for one beginning, at most."""

Where = tuple[NodeId, ModelKey, float]
"""A seat in one life of its model: the node, the model, and when it came into memory."""


class Affinity:
    """Where beginnings of conversations are known."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[Where, float], ...]] = {}

    def copy(self) -> Affinity:
        """Return what is known as it is now."""
        other = Affinity()
        other._known = dict(self._known)
        return other

    def learn(self, prefix: Sequence[int], where: Where, now: float) -> None:
        """Note that a seat has read a conversation."""
        for block in _remembered(prefix):
            others = [each for each in self._known.pop(block, ()) if each[0] != where]
            self._known[block] = ((where, now), *others[: SEATS_KEPT - 1])
        while len(self._known) > BLOCKS_KEPT:
            del self._known[next(iter(self._known))]

    def matches(self, prefix: Sequence[int], now: float) -> dict[Where, float]:
        """Return the seats that know enough of a conversation, with the part of it, 0 to 1."""
        parts: dict[Where, float] = {}
        for length in range(len(prefix), 0, -1):
            if length < LEAST_MATCH * len(prefix):
                break
            for where, learned in self._known.get(prefix[length - 1], ()):
                if now - learned <= TTL_SECONDS:
                    parts.setdefault(where, length / len(prefix))
        return parts

    def __len__(self) -> int:
        """Return how many beginnings are remembered."""
        return len(self._known)


def _remembered(prefix: Sequence[int]) -> Iterator[int]:
    """Yield the hashes of a conversation that are remembered."""
    length = 1
    while length < len(prefix):
        yield prefix[length - 1]
        length *= 2
    if prefix:
        yield prefix[-1]
