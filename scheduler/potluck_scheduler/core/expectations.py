"""How long things are likely to take: the policy compares it, and those who wait are told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from potluck_proto.ids import NodeId
from potluck_scheduler.core.affinity import Affinity
from potluck_scheduler.core.capability import mismatch
from potluck_scheduler.core.model import ModelKey, Request
from potluck_scheduler.core.pool import Pool
from potluck_scheduler.core.seats import Seat
from potluck_scheduler.core.speeds import Speeds

RATE_SECONDS = 1.0
"""How long what was found of waiting times is thought to be right."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast those who wait for a model are served."""

    answers_per_second: float
    """When all seats are taken."""
    soonest_seconds: float
    """After which the first seat is there; infinite where none is or comes."""
    coming: int
    """Seats that are on their way, all of them free."""
    quickest: NodeId | None
    """Where the model writes fastest when it is full, of those that have it in memory."""
    until: float
    """When it is looked at anew."""

    def wait_seconds(self, position: int) -> float:
        """Return how long a request waits; infinite where nothing serves it.

        Args:
            position: Requests that are served before it.
        """
        if not self.answers_per_second:
            return math.inf
        behind = max(0, position + 1 - self.coming)
        return self.soonest_seconds + behind / self.answers_per_second


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision may look at."""

    pool: Pool
    affinity: Affinity
    speeds: Speeds
    waiting: Mapping[ModelKey, int]
    """Requests that wait for each model."""
    rates: dict[ModelKey, Rate]
    """Those that were found already; `rate` fills it."""
    now: float

    def serves(self, request: Request, seat: Seat) -> bool:
        """Say whether a seat meets the wishes of a request."""
        if not (request.nodes or request.tags):
            # Asked for each seat of a large pool: the one wish that is usual is looked at first.
            return not 0 < seat.model.context_length < request.context_tokens
        return mismatch(request, self.pool.places[seat.node_id].node, seat.model) is None

    def answer_seconds(self, request: Request, seat: Seat, match: float = 0.0) -> float:
        """Return what an answer takes at a seat, from its first step to its end.

        Args:
            request: What is asked.
            seat: Where.
            match: The part of the prompt that the seat knows, 0 to 1.
        """
        node = self.pool.places[seat.node_id].node
        prefill = self.speeds.prefill_seconds_per_token(node, seat.model)
        token = self.speeds.seconds_per_token(node, seat.model, seat.busy + 1)
        tokens = self.speeds.answer_tokens(seat.key, request.answer_tokens)
        return (1 - match) * request.prompt_tokens * prefill + tokens * token

    def load_seconds(self, seat: Seat) -> float:
        """Return what a load takes, or what is left of one that is under way."""
        whole = self.speeds.load_seconds(self.pool.places[seat.node_id].node, seat.model)
        if seat.loaded is not None and not seat.loaded.ready:
            return whole * (1 - seat.loaded.load_fraction)
        return whole

    def rate(self, key: ModelKey) -> Rate:
        """Return how fast those who wait for a model are served."""
        rate = self.rates.get(key)
        if rate is None or self.now >= rate.until:
            rate = self.rates[key] = self._rate(key)
        return rate

    def _rate(self, key: ModelKey) -> Rate:
        answers, soonest, coming = 0.0, math.inf, 0
        quickest: tuple[float, NodeId] | None = None
        tokens = self.speeds.answer_tokens(key)
        for seat in self.pool.seats(key).values():
            if not seat.counted_on:
                continue
            node = self.pool.places[seat.node_id].node
            token_seconds = self.speeds.seconds_per_token(node, seat.model, seat.slots)
            answers += seat.slots / max(tokens * token_seconds, 1e-6)
            if seat.on_its_way:
                soonest = min(soonest, self.load_seconds(seat))
                coming += seat.slots
            else:
                soonest = 0.0
                if quickest is None or token_seconds < quickest[0]:
                    quickest = token_seconds, seat.node_id
        until = self.now + RATE_SECONDS
        return Rate(answers, soonest, coming, quickest[1] if quickest else None, until)
