"""All that the core knows, in one place, so that it can be copied and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from potluck_proto.errors import NoNodes, UnknownNode
from potluck_scheduler.core import policy
from potluck_scheduler.core.affinity import BLOCKS_KEPT, Affinity
from potluck_scheduler.core.expectations import Rate, Situation
from potluck_scheduler.core.ledger import Ledger
from potluck_scheduler.core.model import ModelKey, Request
from potluck_scheduler.core.pool import Pool
from potluck_scheduler.core.resolve import Names
from potluck_scheduler.core.seats import Seat
from potluck_scheduler.core.speeds import PAIRS_KEPT, Pair, Speed, Speeds

RATES_KEPT = 1_000
NODES_SHOWN = 8

NO_NODES = (
    "No worker is connected. `potluck up` starts one on this machine; `potluck nodes` shows what "
    "was found."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the core is bounded by."""

    queued: int = 1_000
    """Requests that may wait; those that were interrupted wait beyond it."""
    meeting_seconds: float = 3.0
    """A scheduler that has just started waits so long for workers before it refuses for lack of
    them."""
    return_seconds: float = 60.0
    """An answer that was interrupted waits so long for a node that can go on with it."""
    patience_seconds: float = 30.0
    """After so long in the queue, a model gets the memory of one that is busy all the time."""
    longest_backoff_seconds: float = 30.0
    """What a node or a load waits at most that fails again and again."""


class State:
    """What the core knows.

    Args:
        default_model: For requests that name none; empty lets the pool decide.
        limits: What it is bounded by.
        speeds: What was learned before.
        now: The time, in seconds.
    """

    def __init__(
        self,
        default_model: str,
        limits: Limits,
        speeds: Mapping[Pair, Speed] | None = None,
        now: float = -math.inf,
    ) -> None:
        self.limits = limits
        self.now = now
        self.started = now
        self.speeds = Speeds(speeds)
        self.pool = Pool(self.speeds, limits.longest_backoff_seconds)
        self.affinity = Affinity()
        self.ledger = Ledger()
        self.next_lane = 0
        self._default_model = default_model
        self._names = Names(default_model)
        self.rates: dict[ModelKey, Rate] = {}

    def copy(self) -> State:
        """Return the state as it is now."""
        other = State(self._default_model, self.limits, now=self.now)
        other.started, other.next_lane = self.started, self.next_lane
        other.speeds = self.speeds.copy()
        other.pool = self.pool.copy(other.speeds)
        other.affinity, other.ledger = self.affinity.copy(), self.ledger.copy()
        other._names, other.rates = self._names.copy(), dict(self.rates)
        return other

    @property
    def waits(self) -> bool:
        """Whether anything waits for time to pass."""
        return bool(self.ledger.queued or self.ledger.lobby or self.pool.closed)

    def situation(self) -> Situation:
        """Return what a decision may look at."""
        if len(self.rates) > RATES_KEPT:
            self.rates.clear()
        return Situation(
            self.pool, self.affinity, self.speeds, self.ledger.waiting, self.rates, self.now
        )

    def keys(self, request: Request) -> list[ModelKey]:
        """Return the models that a request may mean, the best first.

        Raises:
            NoNodes, UnknownNode, UnknownModel: There is none, for lack of nodes.
        """
        places = self.pool.places
        if not places:
            raise NoNodes(NO_NODES)
        if request.nodes:
            self._check_nodes(request)
        return self._names.keys(request.model, self.pool, self.now)

    def _check_nodes(self, request: Request) -> None:
        """Raise `UnknownNode` where none of the nodes that are asked for is there."""
        nodes = [place.node for place in self.pool.places.values()]
        if any(node.name in request.nodes or node.node_id in request.nodes for node in nodes):
            return
        there = ", ".join(node.name for node in nodes[:NODES_SHOWN])
        more = f" and {len(nodes) - NODES_SHOWN} more" if len(nodes) > NODES_SHOWN else ""
        wanted = " or ".join(map(repr, request.nodes))
        raise UnknownNode(f"No node is called {wanted}. There are: {there}{more}.")

    def best_key(self, request: Request, keys: list[ModelKey]) -> ModelKey:
        """Return the best of several models that a node could hold; the smallest if none could.

        An answer that was interrupted goes on with the model that it comes from, if it can.
        """
        if len(keys) == 1:
            return keys[0]
        situation = self.situation()
        first = [request.progress.key] if request.progress else []
        for key in (*first, *keys):
            for seat in self.pool.seats(key).values():
                if situation.serves(request, seat) and policy.could_hold(seat, situation):
                    return key
        return keys[-1]

    def wait_seconds(self, key: ModelKey, position: int) -> float:
        """Return how long a request waits; 0 where that cannot be told."""
        seconds = self.situation().rate(key).wait_seconds(position)
        return seconds if math.isfinite(seconds) else 0.0

    def know(self, prefix: tuple[int, ...], seat: Seat) -> None:
        """Note that a seat has read a conversation."""
        if prefix:
            self.affinity.learn(prefix, (seat.node_id, seat.key, seat.loaded_since), self.now)

    def check_invariants(self) -> None:
        """Raise `AssertionError` where the state contradicts itself."""
        self.pool.check_invariants()
        self.ledger.check_invariants()
        for node_id in self.pool.places:
            sitting = [tracked.sitting for tracked in self.ledger.sitting_on(node_id)]
            for seat in self.pool.seats_on(node_id):
                here = [s for s in sitting if s and (s.key, s.epoch) == (seat.key, seat.epoch)]
                assert seat.in_flight == len(here), "no slot is leaked"
        for lane in self.ledger.lanes.values():
            head = self.ledger[lane.head[2]].request
            free = policy.warm(head, lane.key, self.situation())
            assert free is None, "nobody waits beside a free seat"
        assert len(self.affinity) <= BLOCKS_KEPT
        assert len(self.speeds) <= PAIRS_KEPT
