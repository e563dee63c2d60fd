"""Decisions in words: the line under an answer, and what was thought of each node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from potluck_proto.ids import NodeId
from potluck_scheduler.core.capability import obstacle
from potluck_scheduler.core.eviction import victims_if_idle
from potluck_scheduler.core.expectations import Situation
from potluck_scheduler.core.explanation import (
    Candidate,
    Decision,
    Explanation,
    Step,
    Verdict,
)
from potluck_scheduler.core.model import Model, ModelKey, Request
from potluck_scheduler.core.policy import Choice, could_hold
from potluck_scheduler.core.seats import Place, Seat

GIB = 2**30

LISTED = 8
"""Nodes that the explanation of a placement lists; a house has fewer, and all are listed then."""


def explain(
    request: Request, choice: Choice, situation: Situation, *, every_node: bool = False
) -> Explanation:
    """Return why a choice was made, with the nodes that were looked at."""
    key, seat = choice.key, choice.seat
    chosen = None
    if seat is not None:
        chosen = candidate(request, key, seat.node_id, situation)
        chosen = replace(
            chosen, verdict=Verdict.CHOSEN, reason=_reason_chosen(choice, seat, situation)
        )
    # Who waits is told for what; why there, when there is a place.
    limit = None if every_node else LISTED if seat is not None else 0
    others = candidates(request, key, situation, limit, but=seat.node_id if seat else None)
    listed = (*([chosen] if chosen else []), *others)
    summary = chosen.reason if chosen else _why_waiting(request, key, situation)
    if choice.step not in (Step.WARM, Step.QUEUED):
        passed = [other for other in others if other.needed_bytes][:2]
        summary = "; ".join([summary, *(f"{o.node_name}: {o.reason}" for o in passed)])
    return Explanation(
        model=key,
        step=choice.step,
        summary=summary,
        candidates=listed,
        others=len(situation.pool.places) - len(listed),
        node_id=chosen.node_id if chosen else None,
        node_name=chosen.node_name if chosen else "",
    )


def waits_for_nodes(hopeless: Decision) -> Decision:
    """Return the decision to wait for nodes to appear, as those that are there do not serve."""
    before = hopeless.explanation
    summary = f"waits for a machine that can serve it: {before.summary}"
    return Decision(replace(before, step=Step.QUEUED, summary=summary))


def candidates(
    request: Request,
    key: ModelKey,
    situation: Situation,
    limit: int | None,
    but: NodeId | None = None,
) -> list[Candidate]:
    """Return what is thought of the nodes, the possible ones first; those with the file at least.

    Args:
        request: What is asked.
        key: The model.
        situation: The pool.
        limit: List so many; `None` lists all.
        but: A node that is left out.
    """
    nodes = (node_id for node_id in _nearest_first(key, situation) if node_id != but)
    found = [candidate(request, key, node_id, situation) for node_id in islice(nodes, limit)]
    return sorted(found, key=lambda each: each.verdict is Verdict.REJECTED)


def _nearest_first(key: ModelKey, situation: Situation) -> Iterator[NodeId]:
    """Yield the nodes: those where the model could run, those with the file, all others."""
    pool = situation.pool
    seen: set[NodeId] = set()
    for group in (pool.open_seats(key), pool.seats(key), pool.known.get(key, {}), pool.places):
        for node_id in group:
            if node_id not in seen:
                seen.add(node_id)
                yield node_id


def candidate(request: Request, key: ModelKey, node_id: NodeId, situation: Situation) -> Candidate:
    """Return what is thought of one node."""
    pool = situation.pool
    place, seat = pool.places[node_id], pool.seat(node_id, key)
    model = pool.known.get(key, {}).get(node_id)
    if (why_not := obstacle(request, place.node, model)) is not None or seat is None:
        reason, possible = why_not.reason if why_not else "cannot use it", False
    elif not place.open:
        reason, possible = _why_closed(place, situation.now), False
    else:
        reason, possible = _reason(seat, place, situation)
    return Candidate(
        node_id=node_id,
        node_name=place.node.name,
        verdict=Verdict.POSSIBLE if possible else Verdict.REJECTED,
        reason=reason,
        needed_bytes=_needed_bytes(model, seat),
        free_bytes=place.free_bytes,
        queue_length=seat.loaded.queue_length if seat and seat.loaded else 0,
        tokens_per_second=_tokens_per_second(seat, situation),
    )


def _needed_bytes(model: Model | None, seat: Seat | None) -> int:
    """Return what a load would take; 0 where there is nothing to load."""
    if model is None or (seat is not None and seat.loaded is not None):
        return 0
    return model.memory_needed_bytes


def _tokens_per_second(seat: Seat | None, situation: Situation) -> float:
    """Return how fast an answer would be, where that was measured."""
    speed = situation.speeds.get((seat.node_id, seat.key)) if seat else None
    return 1 / seat.token_seconds if seat and speed and speed.samples and seat.token_seconds else 0


def _reason(seat: Seat, place: Place, situation: Situation) -> tuple[str, bool]:
    """Return what speaks for or against a node that can run the model, and which of the two."""
    if seat.leaving:
        return "makes room for another model", False
    if seat.on_its_way:
        done = seat.loaded.load_fraction if seat.loaded else 0.0
        return f"being loaded, {done:.0%}", True
    if seat.warm:
        return _slots(seat), True
    if seat.loaded is not None:
        return "is being unloaded", False
    if seat.rests_until > situation.now:
        seconds = seat.rests_until - situation.now
        return f"failed here lately, and is tried again in {seconds:.0f} s", False
    return _reason_to_load(seat, place, situation)


def _reason_to_load(seat: Seat, place: Place, situation: Situation) -> tuple[str, bool]:
    """Return what speaks for or against a load, and which of the two."""
    needed, free = gib(seat.model.memory_needed_bytes), gib(place.free_bytes)
    if seat.model.memory_needed_bytes <= place.free_bytes:
        return f"fits: needs {needed} of {free} GiB free", True
    if victims := victims_if_idle(seat, situation):
        names = ", ".join(str(victim.key) for victim in victims)
        return f"has room once {names} {'leaves' if len(victims) == 1 else 'leave'}", True
    if could_hold(seat, situation):
        return f"too big for its card alone: needs {needed}, has {free} GiB free", True
    total = gib(place.node.memory_total_bytes)
    return f"too small: needs {needed}, has {free} of {total} GiB free", False


def _slots(seat: Seat) -> str:
    """Return how busy a model in memory is."""
    reason = f"in memory, {min(seat.busy, seat.slots)} of {seat.slots} slots busy"
    if seat.busy > seat.slots:
        reason += f", {seat.busy - seat.slots} waiting"
    return reason


def _why_closed(place: Place, now: float) -> str:
    if place.not_before > now:
        seconds = place.not_before - now
        return f"was lost again and again, and gets work again in {seconds:.0f} s"
    return "has been silent for a moment"


def _reason_chosen(choice: Choice, seat: Seat, situation: Situation) -> str:
    place = situation.pool.places[seat.node_id]
    needed, free = gib(seat.model.memory_needed_bytes), gib(place.free_bytes)
    match choice.step:
        case Step.COLD_FITS:
            return f"loaded now, takes {needed} of {free} GiB free"
        case Step.AFTER_EVICTION:
            names = " and ".join(map(str, choice.evict))
            return f"loaded now in the place of {names}, which was idle"
        case Step.PARTLY_OFFLOADED:
            return (
                f"loaded now, {needed} GiB of which its card has {free} free; the processor does "
                "the rest, slowly"
            )
        case _ if choice.match:
            return f"{_slots(seat)}, knows {choice.match:.0%} of the conversation"
        case _:
            return _slots(seat)


def _why_waiting(request: Request, key: ModelKey, situation: Situation) -> str:
    """Return what a request waits for, by the first seats that it may have."""
    seats = [
        seat
        for seat in islice(situation.pool.seats(key).values(), LISTED)
        if situation.serves(request, seat)
    ]
    names = {s.node_id: situation.pool.places[s.node_id].node.name for s in seats}
    coming = [names[seat.node_id] for seat in seats if seat.on_its_way]
    full = [names[seat.node_id] for seat in seats if seat.warm]
    if coming:
        return f"waits for {key} to be loaded on {_some(coming)}"
    if full:
        return f"waits for a free slot of {key} on {_some(full)}"
    return f"waits for memory for {key} on {_some(list(names.values()))}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


def gib(size_bytes: int) -> str:
    """Return a size in GiB for a person."""
    return f"{size_bytes / GIB:.1f}"
