"""The desk where requests are placed: what is done about each decision of the policy."""

from __future__ import annotations

from dataclasses import replace

from potluck_proto.errors import (
    Draining,
    LostError,
    NoNodes,
    PotluckError,
    QueueFull,
    UnknownModel,
    UnknownNode,
)
from potluck_scheduler.core import policy
from potluck_scheduler.core.events import Dispatch, Instruction, Load, Queue, Refuse
from potluck_scheduler.core.explanation import Decision, Step
from potluck_scheduler.core.ledger import Tracked
from potluck_scheduler.core.model import ModelKey, Progress, Request
from potluck_scheduler.core.policy import Choice
from potluck_scheduler.core.refusal import refuse, refused
from potluck_scheduler.core.seats import Seat
from potluck_scheduler.core.state import State
from potluck_scheduler.core.waiting import Lane, want_of
from potluck_scheduler.core.words import explain, waits_for_nodes

CLOSED_SECONDS = 120.0
"""How long a busy model takes no answers at most, so that another gets its memory."""

FIRST_REST_SECONDS = 0.5

LOADS_AT_ONCE = 8
"""Loads that are begun at once for those who wait for the same, at most."""


LACKS_NODES = (NoNodes, UnknownModel, UnknownNode, Draining)
"""Refusals that would not be, were all nodes of the pool there."""


class Desk:
    """Places requests, lets them wait, begins loads, refuses.

    Args:
        state: What the core knows.
        out: Takes the instructions.
    """

    def __init__(self, state: State, out: list[Instruction]) -> None:
        self._state = state
        self._out = out

    # --- one request ---------------------------------------------------------------------------

    def seek(self, tracked: Tracked) -> None:
        """Find a place for a request that has none."""
        state, request = self._state, tracked.request
        try:
            keys = state.keys(request)
        except PotluckError as error:
            self._hopeless(tracked, refused(request.model, error))
            return
        key = state.best_key(request, keys)
        lane = state.ledger.lanes.get(want_of(request))
        if lane is not None and lane.key == key:
            self._stand_in_line(tracked, lane)
            return
        choice = policy.place(request, key, state.situation())
        if choice is None:
            self._hopeless(tracked, refuse(request, keys, state.situation()))
        elif choice.step is Step.WARM:
            self._dispatch(tracked, choice)
        else:
            self._wait(tracked, choice)

    def _stand_in_line(self, tracked: Tracked, lane: Lane) -> None:
        """Let a request wait behind those who want the same.

        A free seat that they leave alone, since they wait for a faster one, may be better than to
        wait behind them all.
        """
        request, choice = tracked.request, None
        if not lane.waits_for(request.client):
            choice = policy.warm(request, lane.key, self._state.situation(), ahead=len(lane))
        if choice is not None:
            self._dispatch(tracked, choice)
        else:
            self._wait(tracked, Choice(Step.QUEUED, lane.key))

    def try_elsewhere(self, tracked: Tracked) -> None:
        """Let an answer that sits somewhere go on at another node, where there is a place."""
        sitting, request = tracked.sitting, tracked.request
        if sitting is None or not request.may_move:
            return
        progress = Progress(sitting.key, tracked.tokens, sitting.node_id)
        moving = replace(tracked, request=replace(request, progress=progress))
        choice = policy.elsewhere(moving.request, sitting.key, self._state.situation())
        if choice is None:
            return
        if choice.step is Step.WARM:
            self._dispatch(moving, choice)
        else:
            self._begin_load(choice)

    def get_up(self, tracked: Tracked) -> None:
        """Free the seat of an answer."""
        if sitting := tracked.sitting:
            self._state.pool.give_back(sitting.node_id, sitting.key, sitting.epoch, self._state.now)

    def refuse(self, tracked: Tracked, decision: Decision) -> None:
        """End a request."""
        self._state.ledger.close(tracked.request.generation_id)
        self._out.append(Refuse(tracked.request.generation_id, decision))

    def _wait(self, tracked: Tracked, choice: Choice) -> None:
        """Let a request wait, and begin the load that was chosen for it."""
        state, request = self._state, tracked.request
        if state.ledger.queued >= state.limits.queued and request.progress is None:
            self.refuse(tracked, self._queue_full(choice.key))
            return
        decision = self._decision(request, choice)
        if choice.seat is not None:
            self._begin_load(choice)
        lane = state.ledger.queue(tracked, choice.key, decision if choice.seat else None)
        position = lane.position(request.generation_id)
        wait = state.wait_seconds(lane.key, position)
        self._out.append(Queue(request.generation_id, decision, position, wait))

    def _dispatch(self, tracked: Tracked, choice: Choice) -> None:
        """Give an answer a free seat."""
        state, request, seat = self._state, tracked.request, choice.seat
        assert seat is not None
        begun = tracked.decision  # the load that was begun for it says why it is there
        if begun is not None and begun.explanation.node_id == seat.node_id:
            decision = begun
        else:
            decision = self._decision(request, choice)
        self.get_up(tracked)
        state.pool.take(state.pool.seat(seat.node_id, seat.key) or seat, state.now)
        state.ledger.seat(tracked, seat)
        state.know(request.prefix, seat)
        self._out.append(Dispatch(request.generation_id, seat.node_id, decision))

    def _begin_load(self, choice: Choice) -> None:
        assert choice.seat is not None
        self._state.pool.begin_load(choice.seat, choice.evict, self._state.now)
        self._state.rates.pop(choice.key, None)  # those who wait are served sooner now
        self._out.append(Load(choice.seat.node_id, choice.key, choice.evict))

    def _hopeless(self, tracked: Tracked, decision: Decision) -> None:
        """Refuse a request that no node can serve, unless a node may appear that can."""
        state, request = self._state, tracked.request
        deadline = tracked.deadline
        lacks_nodes = isinstance(decision.error, LACKS_NODES)
        if deadline is None and (request.progress or (tracked.want and lacks_nodes)):
            # It has waited, or has said something, already; the node may come back.
            deadline = state.now + state.limits.return_seconds
        elif deadline is None and lacks_nodes:
            deadline = state.started + state.limits.meeting_seconds
        if deadline is None or state.now >= deadline:
            self.refuse(tracked, self._in_the_end(tracked, decision))
            return
        if tracked.deadline is None or tracked.want is not None:
            waiting, rest_seconds = waits_for_nodes(decision), deadline - state.now
            self._out.append(Queue(request.generation_id, waiting, 0, rest_seconds))
        state.ledger.wait_for_nodes(tracked, deadline)

    def _in_the_end(self, tracked: Tracked, decision: Decision) -> Decision:
        """Return the refusal of a request; one that was interrupted is told of that as well."""
        if tracked.trouble is None or decision.error is None:
            return decision
        kind = type(tracked.trouble) if isinstance(tracked.trouble, LostError) else LostError
        error = kind(f"{tracked.trouble.message} It could not go on: {decision.error.message}")
        return refused(str(decision.explanation.model), error)

    # --- those who wait ------------------------------------------------------------------------

    def serve(self, key: ModelKey) -> None:
        """Give free seats of a model to those who wait for it."""
        while self._state.pool.open_seats(key) and self._serve_one(key):
            pass

    def _serve_one(self, key: ModelKey) -> bool:
        state = self._state
        for lane in state.ledger.lanes_of(key):
            tracked = state.ledger[lane.head[2]]
            choice = policy.warm(tracked.request, key, state.situation())
            if choice is not None:
                self._dispatch(tracked, choice)
                return True
        return False

    def try_lobby(self) -> None:
        """Look again at those who wait for nodes to appear."""
        for tracked in self._state.ledger.lobby:
            self.seek(tracked)

    def reconsider(self, lane: Lane) -> None:
        """Look again at what a lane waits for: more may be possible now, or nothing any more."""
        if not lane:
            return
        state = self._state
        head = state.ledger[lane.head[2]]
        try:
            keys = state.keys(head.request)
        except PotluckError as error:
            self._give_up(lane, refused(head.request.model, error))
            return
        key = state.best_key(head.request, keys)
        if key != lane.key:
            state.ledger.turn_to(lane, key)
        choice = policy.place(head.request, key, state.situation())
        if choice is None:
            self._give_up(lane, refuse(head.request, keys, state.situation()))
        elif choice.step is Step.WARM:
            self.serve(key)
        elif choice.seat is not None:
            decision = self._decision(head.request, choice)
            state.ledger.change(replace(head, decision=decision))
            self._begin_load(choice)
        else:
            self._wait_longer(head, key)

    def _wait_longer(self, head: Tracked, key: ModelKey) -> None:
        """Do for one that has waited long what was not worth it before.

        Its model gets further nodes if there is free memory; one that no node has in memory gets
        that of a busy model, which takes no new answers meanwhile.
        """
        state, request = self._state, head.request
        waited = state.now - head.since
        for _ in range(LOADS_AT_ONCE):
            choice = policy.replica(request, key, state.situation(), waited)
            if choice is None:
                break
            self._begin_load(choice)
        if waited > state.limits.patience_seconds:
            for victim in policy.in_the_way(request, key, state.situation()):
                state.pool.close_seat(victim, state.now + CLOSED_SECONDS)

    def _give_up(self, lane: Lane, decision: Decision) -> None:
        """Take everybody out of a lane that nothing serves any more."""
        for generation_id in list(lane):
            self._hopeless(self._state.ledger[generation_id], decision)

    # --- parts ---------------------------------------------------------------------------------

    def rest(self, seat: Seat, trouble: PotluckError, failures: int) -> None:
        """Let a seat alone for a time that grows with its failures."""
        pause = FIRST_REST_SECONDS * 2.0 ** (seat.failures + failures - 1)
        pause = min(self._state.limits.longest_backoff_seconds, pause)
        self._state.pool.rest(seat, self._state.now + pause, trouble, failures)

    def _decision(self, request: Request, choice: Choice) -> Decision:
        explanation = explain(request, choice, self._state.situation())
        return Decision(explanation, evict=choice.evict)

    def _queue_full(self, key: ModelKey) -> Decision:
        ledger = self._state.ledger
        error = QueueFull(
            f"{ledger.queued:,} requests wait already, which is the limit; "
            f"{ledger.waiting.get(key, 0):,} of them for {key}. Ask again later.",
            queued=ledger.queued,
        )
        return refused(str(key), error)
