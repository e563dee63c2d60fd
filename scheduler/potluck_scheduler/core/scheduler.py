"""The core's one door: events go in, instructions come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from potluck_proto.errors import MovedTooOften, NotEnoughMemory, PotluckError
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core import policy
from potluck_scheduler.core.desk import Desk
from potluck_scheduler.core.events import (
    Cause,
    Event,
    Instruction,
    LoadFailed,
    LoadFinished,
    NodeLost,
    NodeSuspected,
    NodeUpdated,
    RequestEnded,
    RequestInterrupted,
    RequestStalled,
    RequestSubmitted,
    SpeedMeasured,
    TimePassed,
)
from potluck_scheduler.core.explanation import Decision
from potluck_scheduler.core.ledger import Sitting, Tracked
from potluck_scheduler.core.model import Node, Progress, Request
from potluck_scheduler.core.refusal import refuse, refused
from potluck_scheduler.core.seats import Seat
from potluck_scheduler.core.speeds import Pair, Speed, Speeds
from potluck_scheduler.core.state import Limits, State
from potluck_scheduler.core.story import Entry, Story
from potluck_scheduler.core.words import explain

PROGRESS_TOKENS = 16
"""An answer that got so many at a place was not what broke it."""

BLAME = {Cause.NODE_LOST: 1, Cause.ENGINE_DIED: 2, Cause.STALLED: 2, Cause.MISBEHAVED: 2}
"""Strikes against the answer that was there. It may itself be what breaks engines; a whole machine
is lost for other reasons most of the time."""

STRIKES_LIMIT = 6
"""An answer with so many strikes in a row is sent to no other place: three engines, say."""

ATTEMPTS_LIMIT = 12
"""Places in a row that an answer may lose without progress, for whatever reason."""

SEATS_A_TICK = 200
"""When time passes, lanes are looked at anew until so many seats were: in a house all of them, in
a large pool each when its turn comes."""

STALLED_SECONDS = 10.0
"""How long a seat takes no answers on which one stalled."""

TURNED_AWAY_SECONDS = 0.5
"""How long, the first time, a seat takes no answers that turned one away."""

NO_LIMITS = Limits()


class Scheduler:
    """Decides where answers go.

    Its state is bounded by the nodes that answer and the requests that have not ended. The view of
    the nodes is soft: lose it, and the nodes' next words rebuild it.

    Args:
        default_model: For requests that name none; empty lets the pool decide.
        limits: What it is bounded by.
        speeds: What was learned before.
        validate: Check the invariants after every event; for tests, as it costs time.

    Attributes:
        story: What happened lately, to be read and replayed.
    """

    def __init__(
        self,
        default_model: str = "",
        *,
        limits: Limits = NO_LIMITS,
        speeds: Mapping[Pair, Speed] | None = None,
        validate: bool = False,
    ) -> None:
        self._state = State(default_model, limits, speeds)
        self._validate = validate
        self.story: Story[State] = Story()

    @classmethod
    def resume(cls, state: State, *, validate: bool = False) -> Scheduler:
        """Return a scheduler that goes on from a state, as one of a story's."""
        scheduler = cls(validate=validate)
        scheduler._state = state.copy()
        return scheduler

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in what happened; return what to do, in order.

        Args:
            event: What happened.
            now: Seconds on a clock that should not go back; where it does, time stands still.
        """
        state = self._state
        if self.story.chapter_is_full:
            self.story.begin_chapter(state.copy())
        if state.started < 0:
            state.started = now
        state.now = max(state.now, now)
        out: list[Instruction] = []
        self._take_in(event, Desk(state, out))
        self.story.add(Entry(now, event, tuple(out)))
        if self._validate:
            state.check_invariants()
        return out

    # --- what the outside asks -----------------------------------------------------------------

    def explain(self, request: Request) -> Decision:
        """Return what would be decided now, with what is thought of every node."""
        state = self._state
        try:
            keys = state.keys(request)
        except PotluckError as error:
            return refused(request.model, error)
        situation = state.situation()
        choice = policy.place(request, state.best_key(request, keys), situation)
        if choice is None:
            return refuse(request, keys, situation, every_node=True)
        return Decision(explain(request, choice, situation, every_node=True), evict=choice.evict)

    def place_in_queue(self, generation_id: GenerationId) -> tuple[int, float] | None:
        """Return how many are served before a request and how long it waits, if it waits."""
        tracked = self._state.ledger.get(generation_id)
        if tracked is None or tracked.want is None:
            return None
        lane = self._state.ledger.lanes[tracked.want]
        position = lane.position(generation_id)
        return position, self._state.wait_seconds(lane.key, position)

    def load_of(self, generation_id: GenerationId) -> float | None:
        """Return how far the load is that a request waits for, 0 to 1, if it waits for one."""
        tracked = self._state.ledger.get(generation_id)
        if tracked is None or tracked.want is None:
            return None
        key = self._state.ledger.lanes[tracked.want].key
        seats = [s for s in self._state.pool.seats(key).values() if s.on_its_way]
        return max((s.loaded.load_fraction if s.loaded else 0.0 for s in seats), default=None)

    def node(self, node_id: NodeId) -> Node | None:
        """Return a node that answers."""
        place = self._state.pool.places.get(node_id)
        return place.node if place else None

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits for time to pass."""
        return self._state.waits

    @property
    def queued(self) -> int:
        """How many requests wait in a queue."""
        return self._state.ledger.queued

    @property
    def speeds(self) -> Speeds:
        """What was learned of all models on all nodes."""
        return self._state.speeds

    # --- events --------------------------------------------------------------------------------

    def _take_in(self, event: Event, desk: Desk) -> None:
        match event:
            case NodeUpdated():
                self._node_updated(event.node, desk)
            case NodeSuspected():
                self._state.pool.suspect(event.node_id)
            case NodeLost():
                self._node_lost(event.node_id, desk)
            case LoadFinished():
                self._load_finished(event, desk)
            case LoadFailed():
                self._load_failed(event, desk)
            case SpeedMeasured():
                self._learn(event)
            case RequestSubmitted():
                self._submitted(event, desk)
            case RequestInterrupted():
                self._interrupted(event, desk)
            case RequestStalled():
                self._stalled(event.generation_id, desk)
            case RequestEnded():
                self._ended(event, desk)
            case TimePassed():
                self._time_passed(desk)

    def _node_updated(self, node: Node, desk: Desk) -> None:
        state = self._state
        revision, before = state.pool.revision, self.node(node.node_id)
        state.pool.update(node, state.now)
        if state.ledger.waiting:
            for key in node.memory:
                desk.serve(key)
        if state.pool.revision != revision or (before and before.draining != node.draining):
            desk.try_lobby()
        leaving = {key for key, loaded in node.memory.items() if node.draining or loaded.draining}
        if leaving:
            for tracked in state.ledger.sitting_on(node.node_id):
                if tracked.sitting is not None and tracked.sitting.key in leaving:
                    desk.try_elsewhere(tracked)

    def _node_lost(self, node_id: NodeId, desk: Desk) -> None:
        self._state.pool.lose(node_id, self._state.now)
        for lane in list(self._state.ledger.lanes.values()):
            desk.reconsider(lane)

    def _load_finished(self, event: LoadFinished, desk: Desk) -> None:
        state = self._state
        state.speeds.learn_load((event.node_id, event.key), event.seconds)
        if seat := state.pool.end_load(event.node_id, event.key):
            state.pool.warm_up(seat, state.now)
            desk.serve(event.key)

    def _load_failed(self, event: LoadFailed, desk: Desk) -> None:
        state = self._state
        if seat := state.pool.end_load(event.node_id, event.key):
            # An engine that died may live the next time; what the node refuses, it refuses.
            final = isinstance(event.error, NotEnoughMemory) or not event.error.retryable
            desk.rest(seat, event.error, policy.FAILURES_LIMIT if final else 1)
        for lane in state.ledger.lanes_of(event.key):
            desk.reconsider(lane)

    def _learn(self, event: SpeedMeasured) -> None:
        speeds, pair = self._state.speeds, (event.node_id, event.key)
        seat = self._state.pool.seat(*pair)
        busy = event.busy or (max(1, seat.busy) if seat else 1)
        speeds.learn_answer(pair, busy, event.answer_tokens, event.decode_seconds)
        speeds.learn_prefill(pair, event.prompt_tokens, event.prefill_seconds)
        if seat is not None:
            self._state.pool.refresh(seat)

    def _submitted(self, event: RequestSubmitted, desk: Desk) -> None:
        state = self._state
        desk.try_lobby()  # who came before is served before
        tracked = state.ledger.open(event.request, state.now)
        if event.restored is not None:
            deadline = state.now + state.limits.return_seconds
            tracked = replace(tracked, deadline=deadline, trouble=event.restored)
        desk.seek(tracked)

    def _interrupted(self, event: RequestInterrupted, desk: Desk) -> None:
        tracked = self._state.ledger.get(event.generation_id)
        if tracked is None or tracked.sitting is None:
            return
        sitting = tracked.sitting
        desk.get_up(tracked)
        self._blame_seat(tracked, event, desk)
        tracked = self._state.ledger.stand_up(_interrupted(tracked, event, self._state.now))
        if error := _why_not_again(tracked):
            desk.refuse(tracked, refused(str(sitting.key), error))
        else:
            desk.seek(tracked)
        desk.serve(sitting.key)

    def _blame_seat(self, tracked: Tracked, event: RequestInterrupted, desk: Desk) -> None:
        """Let a seat rest on which an answer was interrupted."""
        seat = self._seat_of(tracked.sitting)
        if seat is None:
            return
        match event.cause:
            case Cause.NODE_LOST:
                self._state.pool.suspect(seat.node_id)  # until it speaks again
            case Cause.ENGINE_DIED if seat.loaded is not None:
                # The first answer that says so speaks for all that were there.
                desk.rest(seat, event.error, 1)
            case Cause.STALLED:
                self._state.pool.close_seat(seat, self._state.now + STALLED_SECONDS)
            case Cause.TURNED_AWAY | Cause.MISBEHAVED:
                pause = TURNED_AWAY_SECONDS * 2.0**tracked.attempts
                pause = min(self._state.limits.longest_backoff_seconds, pause)
                self._state.pool.close_seat(seat, self._state.now + pause)

    def _stalled(self, generation_id: GenerationId, desk: Desk) -> None:
        tracked = self._state.ledger.get(generation_id)
        if tracked is None:
            return
        if seat := self._seat_of(tracked.sitting):
            self._state.pool.close_seat(seat, self._state.now + STALLED_SECONDS)
        desk.try_elsewhere(tracked)

    def _ended(self, event: RequestEnded, desk: Desk) -> None:
        state = self._state
        tracked = state.ledger.close(event.generation_id)
        if tracked is None or tracked.sitting is None:
            return
        key = tracked.sitting.key
        desk.get_up(tracked)
        if event.answer_tokens:
            state.speeds.learn_length(key, event.answer_tokens)
        if seat := self._seat_of(tracked.sitting):
            state.know(event.prefix, seat)
        desk.serve(key)

    def _time_passed(self, desk: Desk) -> None:
        state = self._state
        for key in state.pool.reopen(state.now):
            desk.serve(key)
        desk.try_lobby()
        lanes, looked_at = list(state.ledger.lanes.values()), 0
        while lanes and looked_at < SEATS_A_TICK:
            lane = lanes.pop(state.next_lane % len(lanes))
            looked_at += 1 + len(state.pool.seats(lane.key))
            desk.reconsider(lane)
            state.next_lane += 1

    def _seat_of(self, sitting: Sitting | None) -> Seat | None:
        """Return the seat of an answer, `None` where it is gone."""
        if sitting is None:
            return None
        seat = self._state.pool.seat(sitting.node_id, sitting.key)
        return seat if seat is not None and seat.epoch == sitting.epoch else None


def _interrupted(tracked: Tracked, event: RequestInterrupted, now: float) -> Tracked:
    """Return what is known of an answer after it lost its place."""
    assert tracked.sitting is not None
    progressed = event.tokens - tracked.tokens >= PROGRESS_TOKENS
    strikes = BLAME.get(event.cause, 0) if event.begun else 0
    return replace(
        tracked,
        request=replace(
            tracked.request,
            progress=Progress(tracked.sitting.key, event.tokens, tracked.sitting.node_id),
            prefix=event.prefix or tracked.request.prefix,
        ),
        since=now,
        trouble=event.error,
        strikes=0 if progressed else tracked.strikes + strikes,
        attempts=0 if progressed else tracked.attempts + 1,
    )


def _why_not_again(tracked: Tracked) -> PotluckError | None:
    """Return why an answer that was interrupted gets no other place, `None` where it may."""
    trouble = tracked.trouble
    assert trouble is not None
    if not tracked.request.may_move:
        return trouble
    if tracked.strikes >= STRIKES_LIMIT:
        return MovedTooOften(
            f"Engines or machines failed {tracked.attempts} times in a row under this answer, so "
            f"it is sent to no other. The last time: {trouble.message}",
            attempts=tracked.attempts,
        )
    if tracked.attempts >= ATTEMPTS_LIMIT:
        return MovedTooOften(
            f"This answer lost its place {tracked.attempts} times without getting any further. "
            f"The last time: {trouble.message}",
            attempts=tracked.attempts,
        )
    return None
