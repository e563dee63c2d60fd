"""Where an answer goes: a chain of small named steps, each a pure function of the situation.

The first step that finds something decides: a seat that is warm and free; a load into free memory,
where waiting would take longer; a load in the place of idle models; a load that does not fit on the
card alone; the queue. Where none does, no node can ever serve the request, and it is refused with
the numbers (`refusal`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter, itemgetter

from potluck_scheduler.core.eviction import victims, victims_if_idle
from potluck_scheduler.core.expectations import Situation
from potluck_scheduler.core.explanation import Step
from potluck_scheduler.core.model import ModelKey, Request
from potluck_scheduler.core.seats import Place, Seat

SHORTLIST = 32
"""Seats that are compared closely, of those that are fastest by themselves."""

LOAD_DIFFERENCE = 2
LOAD_RATIO = 1.5
"""A seat that knows the conversation is looked at twice where it has so many more answers than,
and so many times as many as, the least busy one."""

WORTH_WAITING = 1.5
WORTH_WAITING_SECONDS = 2.0
"""A free seat is left alone where waiting for the fastest one and the answer there take this much
less than the answer here."""

WORTH_LOADING = 1.25
WORTH_LOADING_SECONDS = 1.0
"""A load is begun where it and the answer take this much less than waiting and the answer."""

FAILURES_LIMIT = 3
"""A model that failed to load so often in a row is not waited for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a step found."""

    step: Step
    key: ModelKey
    seat: Seat | None = None
    """`None` in the queue."""
    evict: tuple[ModelKey, ...] = ()
    match: float = 0.0
    """The part of the prompt that the seat knows, 0 to 1."""


def place(request: Request, key: ModelKey, situation: Situation) -> Choice | None:
    """Return where an answer of a model goes, `None` where no node can ever serve it."""
    for step in STEPS:
        if (choice := step(request, key, situation)) is not None:
            return choice
    return None


def warm(request: Request, key: ModelKey, situation: Situation, ahead: int = 0) -> Choice | None:
    """Step 2: a free seat where the model is in memory.

    One that knows the beginning of the conversation, unless it is much busier than others; else the
    one where the answer would be finished first. None where it is quicker to wait for one that is
    much faster.

    Args:
        request: What is asked.
        key: The model.
        situation: The pool.
        ahead: Requests that would be served before it if it waited.
    """
    seats = list(situation.pool.open_seats(key).values())
    if request.nodes or request.tags or request.context_tokens:
        seats = [seat for seat in seats if situation.serves(request, seat)]
    seats = _not_the_last_place(request, seats)
    if not seats:
        return None
    seconds, seat = _finished_first(request, seats, situation)
    if (knowing := _knowing(request, key, seats, seconds, situation)) is not None:
        return knowing
    wait = _seconds_for_the_quickest(request, key, situation, ahead)
    if seconds > WORTH_WAITING * wait + WORTH_WAITING_SECONDS:
        return None
    return Choice(Step.WARM, key, seat)


def _finished_first(
    request: Request, seats: list[Seat], situation: Situation
) -> tuple[float, Seat]:
    """Return where an answer would be finished first, and after how long."""
    if len(seats) > SHORTLIST:
        seats = heapq.nsmallest(SHORTLIST, seats, key=attrgetter("token_seconds"))
    timed = ((situation.answer_seconds(request, seat), seat) for seat in seats)
    return min(timed, key=itemgetter(0))


def _seconds_for_the_quickest(
    request: Request, key: ModelKey, situation: Situation, ahead: int
) -> float:
    """Return when an answer would be finished that waits for the fastest seat."""
    rate = situation.rate(key)
    seat = situation.pool.seat(rate.quickest, key) if rate.quickest else None
    if seat is None or not seat.warm or not situation.serves(request, seat):
        return math.inf
    return rate.wait_seconds(ahead) + situation.answer_seconds(request, seat)


def _knowing(
    request: Request, key: ModelKey, seats: list[Seat], seconds: float, situation: Situation
) -> Choice | None:
    """Return the seat that knows most of a conversation.

    Unless it is much busier than others, and the answer would be finished later there than after
    `seconds`, which it takes elsewhere.
    """
    matches = situation.affinity.matches(request.prefix, situation.now)
    if not matches:
        return None
    by_node = {seat.node_id: seat for seat in seats}
    known = [
        (part, by_node[node_id])
        for (node_id, of, since), part in matches.items()
        if of == key and node_id in by_node and by_node[node_id].loaded_since == since
    ]
    if not known:
        return None
    match, best = max(known, key=lambda each: (each[0], -each[1].busy))
    least = min(seat.busy for seat in seats)
    much_busier = best.busy - least > LOAD_DIFFERENCE and best.busy > LOAD_RATIO * least
    if much_busier and situation.answer_seconds(request, best, match) > seconds:
        return None
    return Choice(Step.WARM, key, best, match=match)


def cold_that_fits(request: Request, key: ModelKey, situation: Situation) -> Choice | None:
    """Step 3: a load into free memory, where waiting for a warm seat would take longer.

    A seat that rests after a failure is waited for where that is quicker than a load elsewhere.
    """
    loadable = _loadable(request, key, situation, resting=True)
    seats = [seat for seat in loadable if _fits(seat, situation)]
    if len(seats) > SHORTLIST:
        seats = heapq.nsmallest(SHORTLIST, seats, key=attrgetter("token_seconds"))
    timed = [(_seconds_with_load(request, seat, situation), seat) for seat in seats]
    if not timed:
        return None
    seconds, best = min(timed, key=itemgetter(0))
    worth = seconds * WORTH_LOADING + WORTH_LOADING_SECONDS
    if worth >= _seconds_waiting(request, key, situation):
        return None
    if best.rests_until > situation.now:
        return Choice(Step.QUEUED, key)
    return Choice(Step.COLD_FITS, key, best)


def after_eviction(request: Request, key: ModelKey, situation: Situation) -> Choice | None:
    """Step 4: a load in the place of idle models, those that were used longest ago."""
    if served_soon(request, key, situation):
        return None
    best: tuple[float, float, Choice] | None = None
    for seat in _loadable(request, key, situation):
        evict = victims(seat, situation)
        if not evict:
            continue
        used = max(victim.last_used for victim in evict)
        seconds = situation.load_seconds(seat) + situation.answer_seconds(request, seat)
        keys = tuple(victim.key for victim in evict)
        choice = Choice(Step.AFTER_EVICTION, key, seat, evict=keys)
        if best is None or (used, seconds) < best[:2]:
            best = (used, seconds, choice)
    return best[2] if best else None


def replica(
    request: Request, key: ModelKey, situation: Situation, waited_seconds: float
) -> Choice | None:
    """Return a load into free memory for a model whose queue stays long.

    Somebody has waited for as long as the load takes: had it been begun then, it would have paid.
    Loads are begun until as many seats come as there are that wait.
    """
    if situation.rate(key).coming >= situation.waiting.get(key, 0):
        return None
    seats = [
        seat
        for seat in _loadable(request, key, situation)
        if _fits(seat, situation) and situation.load_seconds(seat) <= waited_seconds
    ]
    best = min(seats, key=lambda s: _seconds_with_load(request, s, situation), default=None)
    return Choice(Step.COLD_FITS, key, best) if best else None


def partly_offloaded(request: Request, key: ModelKey, situation: Situation) -> Choice | None:
    """Step 5: a load that the card alone has no room for, with layers left to the processor.

    By what a node says of its memory alone; what an engine makes of it, the node knows.
    """
    if served_soon(request, key, situation):
        return None
    seats = [
        seat
        for seat in _loadable(request, key, situation)
        if _spills(seat, situation.pool.places[seat.node_id])
    ]
    best = max(seats, key=lambda seat: situation.pool.places[seat.node_id].free_bytes, default=None)
    return Choice(Step.PARTLY_OFFLOADED, key, best) if best else None


def in_the_queue(request: Request, key: ModelKey, situation: Situation) -> Choice | None:
    """Step 6: wait, where a node could serve the request sooner or later."""
    for seat in situation.pool.seats(key).values():
        if situation.serves(request, seat) and could_hold(seat, situation):
            return Choice(Step.QUEUED, key)
    return None


STEPS: tuple[Callable[[Request, ModelKey, Situation], Choice | None], ...] = (
    warm,
    cold_that_fits,
    after_eviction,
    partly_offloaded,
    in_the_queue,
)


def elsewhere(request: Request, key: ModelKey, situation: Situation) -> Choice | None:
    """Return where an answer may go that would leave its node, and could stay.

    A free seat on another node, else a load there, unless one is warm or on its way already.
    """
    assert request.progress is not None
    here = request.progress.node_id
    choice = warm(request, key, situation)
    if choice is not None and choice.seat is not None and choice.seat.node_id != here:
        return choice
    others = [seat for seat in situation.pool.seats(key).values() if seat.node_id != here]
    if any(seat.counted_on for seat in others if situation.serves(request, seat)):
        return None
    loadable = _loadable(request, key, situation)
    seats = [seat for seat in loadable if _fits(seat, situation) and seat.node_id != here]
    fastest = min(seats, key=situation.load_seconds, default=None)
    return Choice(Step.COLD_FITS, key, fastest) if fastest else None


def could_hold(seat: Seat, situation: Situation) -> bool:
    """Say whether a model is in memory, or could be once others that are ours are not."""
    place = situation.pool.places[seat.node_id]
    if place.node.draining:
        return False
    if seat.loaded is not None or seat.loading:
        return True
    if seat.failures >= FAILURES_LIMIT and situation.now < seat.rests_until:
        return False
    room = situation.pool.room_bytes(seat.node_id)
    return seat.model.memory_needed_bytes <= room or _spills(seat, place)


def served_soon(request: Request, key: ModelKey, situation: Situation) -> bool:
    """Say whether a model is in memory or on its way where a request may go."""
    places = situation.pool.places
    return any(
        seat.counted_on and places[seat.node_id].open and situation.serves(request, seat)
        for seat in situation.pool.seats(key).values()
    )


def in_the_way(request: Request, key: ModelKey, situation: Situation) -> list[Seat]:
    """Return the models, busy ones too, in whose place one that nothing serves would fit."""
    if served_soon(request, key, situation):
        return []
    found = (victims_if_idle(seat, situation) for seat in _loadable(request, key, situation))
    return next(filter(None, found), [])


def _loadable(
    request: Request, key: ModelKey, situation: Situation, *, resting: bool = False
) -> list[Seat]:
    """Return the seats where a model is not in memory and may be loaded.

    With `resting` also those that rest for a moment after a failure.
    """
    places, now = situation.pool.places, situation.now
    return [
        seat
        for seat in situation.pool.seats(key).values()
        if seat.loaded is None
        and not seat.loading
        and (seat.rests_until <= now or (resting and seat.failures < FAILURES_LIMIT))
        and places[seat.node_id].open
        and situation.serves(request, seat)
    ]


def _not_the_last_place(request: Request, seats: list[Seat]) -> list[Seat]:
    """Leave out the node where an answer was interrupted, if there are others."""
    if request.progress is None:
        return seats
    others = [seat for seat in seats if seat.node_id != request.progress.node_id]
    return others or seats


def _fits(seat: Seat, situation: Situation) -> bool:
    return seat.model.memory_needed_bytes <= situation.pool.places[seat.node_id].free_bytes


def _spills(seat: Seat, place: Place) -> bool:
    """Say whether a model is too big for a node's cards, and fits with the machine's memory."""
    room = place.free_bytes + place.node.spill_free_bytes
    return bool(place.node.spill_total_bytes) and seat.model.memory_needed_bytes <= room


def _seconds_with_load(request: Request, seat: Seat, situation: Situation) -> float:
    """Return when an answer would be finished that waits for a load."""
    rest = max(0.0, seat.rests_until - situation.now)
    return rest + situation.load_seconds(seat) + situation.answer_seconds(request, seat)


def _seconds_waiting(request: Request, key: ModelKey, situation: Situation) -> float:
    """Return when an answer would be finished that waits for a seat that is there or comes."""
    seats = [s for s in situation.pool.seats(key).values() if s.counted_on]
    seats = [seat for seat in seats if situation.serves(request, seat)]
    wait = situation.rate(key).wait_seconds(situation.waiting.get(key, 0))
    return wait + min(
        (situation.answer_seconds(request, seat) for seat in seats), default=float("inf")
    )
