"""The requests that have not ended: each sits somewhere, waits in a lane, or waits for nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from potluck_proto.errors import PotluckError
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.explanation import Decision
from potluck_scheduler.core.model import ModelKey, Request
from potluck_scheduler.core.seats import Seat
from potluck_scheduler.core.waiting import Lane, Want, want_of


@dataclass(frozen=True, slots=True)
class Sitting:
    """Where an answer is."""

    node_id: NodeId
    key: ModelKey
    epoch: int
    """Of the seat, which may have gone and come again."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A request that has not ended."""

    request: Request
    number: int
    """Counts up with each that comes."""
    since: float
    """When it came, or was interrupted."""
    sitting: Sitting | None = None
    want: Want | None = None
    """The lane that it waits in."""
    deadline: float | None = None
    """It is refused then, where it waits for nodes to appear."""
    decision: Decision | None = None
    """The load that was begun for it."""
    trouble: PotluckError | None = None
    """What interrupted it."""
    tokens: int = 0
    """What it had when it got its last place."""
    strikes: int = 0
    """What speaks against it of the deaths under it in a row, between which it made no progress."""
    attempts: int = 0
    """Places in a row that it lost without progress."""


class Ledger:
    """All requests that have not ended."""

    def __init__(self) -> None:
        self._tracked: dict[GenerationId, Tracked] = {}
        self._lanes: dict[Want, Lane] = {}
        self._waiting: dict[ModelKey, int] = {}
        self._sitting_on: dict[NodeId, dict[GenerationId, None]] = {}
        self._lobby: dict[GenerationId, None] = {}
        self._count = 0
        self.queued = 0
        """Requests that wait in lanes."""

    def copy(self) -> Ledger:
        """Return the ledger as it is now."""
        other = Ledger()
        other._tracked, other._waiting = dict(self._tracked), dict(self._waiting)
        other._lanes = {want: lane.copy() for want, lane in self._lanes.items()}
        other._sitting_on = {node_id: dict(at) for node_id, at in self._sitting_on.items()}
        other._lobby = dict(self._lobby)
        other._count, other.queued = self._count, self.queued
        return other

    # --- what is there -------------------------------------------------------------------------

    @property
    def lanes(self) -> Mapping[Want, Lane]:
        """The lanes in which somebody waits."""
        return self._lanes

    @property
    def waiting(self) -> Mapping[ModelKey, int]:
        """How many wait for each model."""
        return self._waiting

    @property
    def lobby(self) -> list[Tracked]:
        """Those who wait for nodes to appear."""
        return [self._tracked[generation_id] for generation_id in self._lobby]

    def __getitem__(self, generation_id: GenerationId) -> Tracked:
        """Return a request. Raises `KeyError` for one that ended."""
        return self._tracked[generation_id]

    def get(self, generation_id: GenerationId) -> Tracked | None:
        """Return a request that has not ended."""
        return self._tracked.get(generation_id)

    def __len__(self) -> int:
        """Return how many have not ended."""
        return len(self._tracked)

    def lanes_of(self, key: ModelKey) -> list[Lane]:
        """Return the lanes that a model would serve, the one that is to be served next first."""
        if not self._waiting.get(key):
            return []
        lanes = [lane for lane in self._lanes.values() if lane.key == key]
        return sorted(lanes, key=lambda lane: lane.head)

    def sitting_on(self, node_id: NodeId) -> list[Tracked]:
        """Return the answers that are on a node."""
        return [self._tracked[generation_id] for generation_id in self._sitting_on.get(node_id, ())]

    # --- what happens --------------------------------------------------------------------------

    def open(self, request: Request, now: float) -> Tracked:
        """Begin to track a request."""
        self._count += 1
        tracked = Tracked(request, self._count, now)
        self._tracked[request.generation_id] = tracked
        return tracked

    def close(self, generation_id: GenerationId) -> Tracked | None:
        """Forget a request; return what it was, `None` for one that had ended."""
        tracked = self._tracked.get(generation_id)
        if tracked is not None:
            self._leave(tracked)
            del self._tracked[generation_id]
        return tracked

    def stand_up(self, tracked: Tracked) -> Tracked:
        """Take an answer from its seat; it is nowhere until it is placed, or waits."""
        self._leave(tracked)
        return self.change(replace(tracked, sitting=None))

    def seat(self, tracked: Tracked, seat: Seat) -> None:
        """Note where an answer is now."""
        self._leave(tracked)
        generation_id = tracked.request.generation_id
        progress = tracked.request.progress
        self._tracked[generation_id] = replace(
            tracked,
            sitting=Sitting(seat.node_id, seat.key, seat.epoch),
            want=None,
            deadline=None,
            decision=None,
            tokens=progress.tokens if progress else 0,
        )
        self._sitting_on.setdefault(seat.node_id, {})[generation_id] = None

    def queue(self, tracked: Tracked, key: ModelKey, decision: Decision | None = None) -> Lane:
        """Let a request wait for a model."""
        self._leave(tracked)
        want = want_of(tracked.request)
        lane = self._lanes.get(want)
        if lane is None:
            lane = self._lanes[want] = Lane(want, key)
        lane.add(tracked.request, tracked.number)
        self._count_waiting(lane.key, 1)
        self._tracked[tracked.request.generation_id] = replace(
            tracked, sitting=None, want=want, deadline=None, decision=decision
        )
        return lane

    def wait_for_nodes(self, tracked: Tracked, deadline: float) -> None:
        """Let a request wait for nodes to appear."""
        self._leave(tracked)
        self._lobby[tracked.request.generation_id] = None
        self._tracked[tracked.request.generation_id] = replace(
            tracked, sitting=None, want=None, deadline=tracked.deadline or deadline
        )

    def change(self, tracked: Tracked) -> Tracked:
        """Put what is known of a request in the place of what was."""
        self._tracked[tracked.request.generation_id] = tracked
        return tracked

    def turn_to(self, lane: Lane, key: ModelKey) -> None:
        """Let a lane wait for another model that its requests may mean."""
        self._count_waiting(lane.key, -len(lane))
        lane.key = key
        self._count_waiting(key, len(lane))

    def _leave(self, tracked: Tracked) -> None:
        """Take a request from where it sits or waits."""
        generation_id = tracked.request.generation_id
        if tracked.sitting is not None:
            at = self._sitting_on[tracked.sitting.node_id]
            del at[generation_id]
            if not at:
                del self._sitting_on[tracked.sitting.node_id]
        elif tracked.want is not None:
            lane = self._lanes[tracked.want]
            lane.remove(tracked.request)
            self._count_waiting(lane.key, -1)
            if not lane:
                del self._lanes[tracked.want]
        self._lobby.pop(generation_id, None)

    def _count_waiting(self, key: ModelKey, count: int) -> None:
        self.queued += count
        total = self._waiting.get(key, 0) + count
        if total:
            self._waiting[key] = total
        else:
            self._waiting.pop(key, None)

    def check_invariants(self) -> None:
        """Raise `AssertionError` where a request is nowhere, or in two places."""
        waiting = [generation_id for lane in self._lanes.values() for generation_id in lane]
        sitting = [each for at in self._sitting_on.values() for each in at]
        everywhere = [*waiting, *sitting, *self._lobby]
        assert len(everywhere) == len(set(everywhere)), "each request is in one place"
        assert set(everywhere) == set(self._tracked), "each request is somewhere"
        assert self.queued == len(waiting) == sum(self._waiting.values())
        for key, count in self._waiting.items():
            assert count == sum(len(lane) for lane in self._lanes.values() if lane.key == key) > 0
        for want, lane in self._lanes.items():
            assert len(lane), "an empty lane is closed"
            self._check_order(want, lane)

    def _check_order(self, want: Want, lane: Lane) -> None:
        """What one client asked is served in the order in which it was asked."""
        last: dict[str, int] = {}
        for tracked in self._in(lane):
            assert tracked.want == want
            if tracked.request.progress is None:
                client = tracked.request.client
                assert last.get(client, 0) < tracked.number
                last[client] = tracked.number

    def _in(self, lane: Lane) -> Iterator[Tracked]:
        return (self._tracked[generation_id] for generation_id in lane)
