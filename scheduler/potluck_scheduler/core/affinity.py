"""Which seats know the beginning of a conversation, so that they need not read it again.

A conversation is known by hashes of its beginnings, each a block longer. An engine drops what it
knows when it needs the room, and tells nobody: so this is a guess, good for `TTL_SECONDS`, and
nothing but time depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import ModelKey

TTL_SECONDS = 300.0
"""How long a beginning is thought to be known."""

LEAST_MATCH = 0.3
"""A smaller part of the prompt is not worth a detour."""

BLOCKS_KEPT = 65_536
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
        for block in prefix:
            others = [each for each in self._known.pop(block, ()) if each[0] != where]
            self._known[block] = ((where, now), *others[: SEATS_KEPT - 1])
        while len(self._known) > BLOCKS_KEPT:
            del self._known[next(iter(self._known))]

    def matches(self, prefix: Sequence[int], now: float) -> dict[Where, float]:
        """Return the seats that know enough of a conversation, with the part of it, 0 to 1."""
        lengths: dict[Where, int] = {}
        for length, block in enumerate(prefix, 1):
            known = self._known.get(block)
            if known is None:
                break
            for where, learned in known:
                # A longer beginning counts where all shorter ones are known too.
                if now - learned <= TTL_SECONDS and lengths.get(where, 0) == length - 1:
                    lengths[where] = length
        parts = {where: length / len(prefix) for where, length in lengths.items()}
        return {where: part for where, part in parts.items() if part >= LEAST_MATCH}

    def __len__(self) -> int:
        """Return how many beginnings are remembered."""
        return len(self._known)
