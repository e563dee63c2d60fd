"""The last step: no node can serve a request; why not, with numbers, and what would work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from potluck_proto.errors import ContextOverflow, NotEnoughMemory, PotluckError, WishesUnmet
from potluck_scheduler.core.capability import obstacle
from potluck_scheduler.core.expectations import Situation
from potluck_scheduler.core.explanation import Decision, Explanation, Step
from potluck_scheduler.core.model import Model, ModelKey, Node, Request
from potluck_scheduler.core.policy import FAILURES_LIMIT, could_hold
from potluck_scheduler.core.seats import Seat
from potluck_scheduler.core.words import LISTED, candidates, gib

SHOWN = 4
"""Nodes that an error names."""


def refused(typed: str, error: PotluckError) -> Decision:
    """Return a refusal that needs no look at the nodes."""
    return Decision(Explanation(ModelKey(typed, ""), Step.REFUSED, error.message), error)


def refuse(
    request: Request, keys: Sequence[ModelKey], situation: Situation, *, every_node: bool = False
) -> Decision:
    """Return why no node can serve a request.

    Args:
        request: What is asked.
        keys: The models that it may mean, the best first; the last came nearest.
        situation: The pool.
        every_node: Explain all nodes, and not only the nearest.
    """
    key = keys[-1]
    seats = [s for s in situation.pool.seats(key).values() if _could_run(request, s, situation)]
    troubles = [seat.trouble for seat in seats if seat.trouble and seat.failures >= FAILURES_LIMIT]
    advice = ""
    if troubles:
        error = troubles[0]  # what a node says when it is asked counts, and not what it said before
    elif seats:
        error = _too_little_memory(key, seats, situation)
        advice = _advice(key, seats, situation)
    else:
        error = _unmet(request, key, situation)
    limit = None if every_node else LISTED
    listed = tuple(candidates(request, key, situation, limit))
    others = len(situation.pool.places) - len(listed)
    explanation = Explanation(key, Step.REFUSED, error.message, listed, others, advice=advice)
    return Decision(explanation, error)


def _could_run(request: Request, seat: Seat, situation: Situation) -> bool:
    """Say whether memory alone is in the way."""
    node = situation.pool.places[seat.node_id].node
    return obstacle(request, node, seat.model) is None


def _too_little_memory(key: ModelKey, seats: list[Seat], situation: Situation) -> PotluckError:
    places = situation.pool.places
    nearest = sorted(seats, key=lambda seat: _lacking_bytes(seat, situation))[:SHOWN]
    needed = nearest[0].model.memory_needed_bytes
    numbers = ", ".join(
        f"{places[s.node_id].node.name} has {gib(places[s.node_id].free_bytes)} of "
        f"{gib(places[s.node_id].node.memory_total_bytes)} GiB free"
        for s in nearest
    )
    return NotEnoughMemory(
        f"{key} needs {gib(needed)} GiB of memory; {numbers}. {_advice(key, seats, situation)}",
        needed_bytes=needed,
        lacking_bytes=_lacking_bytes(nearest[0], situation),
    )


def _lacking_bytes(seat: Seat, situation: Situation) -> int:
    room = situation.pool.room_bytes(seat.node_id)
    return max(0, seat.model.memory_needed_bytes - room)


def _advice(key: ModelKey, seats: list[Seat], situation: Situation) -> str:
    """Return the nearest thing that would work."""
    smaller = [
        other
        for other in situation.pool.known
        if other.name == key.name
        and other != key
        and any(could_hold(seat, situation) for seat in situation.pool.seats(other).values())
    ]
    if smaller:
        return f"{' or '.join(map(str, smaller[:2]))} would fit."
    nearest = min(seats, key=lambda seat: _lacking_bytes(seat, situation))
    name = situation.pool.places[nearest.node_id].node.name
    lacking = gib(_lacking_bytes(nearest, situation))
    return (
        f"{name} comes nearest and lacks {lacking} GiB: close other programs there, or add a "
        f"machine; `potluck fit {key}` says what would fit."
    )


def _unmet(request: Request, key: ModelKey, situation: Situation) -> PotluckError:
    """Return what is wrong where no node that has the file can run it for this request."""
    reasons = []
    for node, model in _holders(key, situation):
        why_not = obstacle(request, node, model)
        if why_not is None:
            continue
        if why_not.error is not None:
            return why_not.error
        reasons.append(f"{node.name} {why_not.reason}")
    longest = max((m.context_length for _, m in _holders(key, situation)), default=0)
    said = "; ".join(reasons[:SHOWN])
    if 0 < longest < request.context_tokens:
        return ContextOverflow(
            f"The conversation needs a context of {request.context_tokens:,} tokens or more, and "
            f"no node has {key} with it: {said}. Up to {longest:,} tokens would work."
        )
    return WishesUnmet(f"No node that has {key} is as asked for: {said}.")


def _holders(key: ModelKey, situation: Situation) -> Iterator[tuple[Node, Model]]:
    for node_id, model in situation.pool.known.get(key, {}).items():
        yield situation.pool.places[node_id].node, model
