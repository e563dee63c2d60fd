"""Which models leave a node's memory for another: idle ones, those that were used longest ago."""

from __future__ import annotations

from operator import attrgetter

from potluck_scheduler.core.expectations import Situation
from potluck_scheduler.core.seats import Seat

SWAPS_WINDOW_SECONDS = 60.0
SWAPS_ALLOWED = 2
RESIDENCE_SECONDS = 20.0
"""On a node that swapped models so often within the window, each stays for the residence: else two
models that are asked for in turn would be loaded for one answer each."""


def victims(seat: Seat, situation: Situation) -> list[Seat]:
    """Return idle models that make room for one, used longest ago first; none if too few."""
    others = [
        other
        for other in situation.pool.seats_on(seat.node_id)
        if _movable(other, seat) and other.idle and _settled(other, situation)
    ]
    return _enough(seat, others, situation)


def victims_if_idle(seat: Seat, situation: Situation) -> list[Seat]:
    """Return the models that would have to leave for one to fit, busy ones too; none if too few."""
    others = [other for other in situation.pool.seats_on(seat.node_id) if _movable(other, seat)]
    return _enough(seat, others, situation)


def _movable(other: Seat, seat: Seat) -> bool:
    """Say whether a model is in memory and not pinned there."""
    if other.loaded is None or other.loaded.pinned or other.key == seat.key:
        return False
    return not other.leaving and not other.loading


def _settled(other: Seat, situation: Situation) -> bool:
    """Say whether a model may leave: nobody waits for it, and the node does not swap in circles.

    One that was closed for the sake of others may leave at once.
    """
    if other.closing_until:
        return True
    if situation.waiting.get(other.key):
        return False
    place, now = situation.pool.places[other.node_id], situation.now
    swaps = sum(now - at < SWAPS_WINDOW_SECONDS for at in place.swaps)
    return swaps < SWAPS_ALLOWED or now - other.loaded_since >= RESIDENCE_SECONDS


def _enough(seat: Seat, others: list[Seat], situation: Situation) -> list[Seat]:
    """Return as many models as must leave for one to fit, used longest ago first."""
    lacking = seat.model.memory_needed_bytes - situation.pool.places[seat.node_id].free_bytes
    chosen: list[Seat] = []
    for other in sorted(others, key=attrgetter("last_used")):
        if lacking <= 0:
            break
        chosen.append(other)
        lacking -= other.held_bytes
    # The first ones may not be needed after all, now that the last is in.
    for other in list(chosen):
        if lacking + other.held_bytes <= 0:
            chosen.remove(other)
            lacking += other.held_bytes
    return chosen if lacking <= 0 else []
