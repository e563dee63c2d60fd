"""The last decisions, for whoever asks why an answer went where it did, or nowhere."""

from __future__ import annotations

from collections import deque
from itertools import islice

from potluck_proto.v1 import types_pb2 as types

KEPT = 200
"""Decisions that are remembered; older ones stand under their answers alone."""

ASKED = 20
"""How many are told where nobody says how many."""


class Decisions:
    """Remembers decisions as they were explained."""

    def __init__(self) -> None:
        self._newest_first: deque[types.Explanation] = deque(maxlen=KEPT)

    def note(self, explanation: types.Explanation) -> None:
        """Remember a decision."""
        self._newest_first.appendleft(explanation)

    def last(self, node_id: str, limit: int) -> list[types.Explanation]:
        """Return decisions, newest first.

        Args:
            node_id: Only those that looked at this node; empty is all.
            limit: How many at most; 0 is `ASKED`.
        """
        found = (
            explanation
            for explanation in self._newest_first
            if not node_id or any(c.node_id == node_id for c in explanation.candidates)
        )
        return list(islice(found, limit or ASKED))
