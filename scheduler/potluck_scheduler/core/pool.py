"""What is known of the nodes, kept so that a decision need not look at all of it.

A *seat* is a model on a node: where an answer may sit. Seats are found by model, and those that
take an answer at once are held apart, so that a thousand nodes cost a decision no more than the few
that matter. Places and seats are frozen: a change puts a new one in the place of the old. All of it
is soft: the nodes' next words rebuild it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from potluck_proto.errors import PotluckError
from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import Loaded, Model, ModelKey, Node
from potluck_scheduler.core.seats import Place, Seat
from potluck_scheduler.core.speeds import Speeds

FLAP_MEMORY_SECONDS = 120.0
"""Losses of a node further back are forgotten."""

SWAPS_REMEMBERED = 4

LOSSES_REMEMBERED = 1_000
"""Nodes that were lost lately and have not come back, at most."""

Value = TypeVar("Value")
Index = dict[ModelKey, dict[NodeId, Value]]


class Pool:
    """The nodes that answer, and their seats.

    Args:
        speeds: How fast models are.
        longest_backoff_seconds: What a node waits at most that is lost again and again.
    """

    def __init__(self, speeds: Speeds, longest_backoff_seconds: float) -> None:
        self._speeds = speeds
        self._longest_backoff_seconds = longest_backoff_seconds
        self._epochs = 0
        self._places: dict[NodeId, Place] = {}
        self._losses: dict[NodeId, tuple[float, ...]] = {}
        self._seats: Index[Seat] = {}
        self._open: Index[Seat] = {}
        self._known: Index[Model] = {}
        self._closed: dict[tuple[NodeId, ModelKey], float] = {}
        self.revision = 0
        """Counts changes of which models there are."""

    def copy(self, speeds: Speeds) -> Pool:
        """Return the pool as it is now, with a copy of the speeds."""
        other = Pool(speeds, self._longest_backoff_seconds)
        other._epochs, other.revision = self._epochs, self.revision
        other._places, other._losses = dict(self._places), dict(self._losses)
        other._closed = dict(self._closed)
        other._seats = {key: dict(at) for key, at in self._seats.items()}
        other._open = {key: dict(at) for key, at in self._open.items()}
        other._known = {key: dict(at) for key, at in self._known.items()}
        return other

    # --- what is there -------------------------------------------------------------------------

    @property
    def places(self) -> Mapping[NodeId, Place]:
        """All nodes that answer."""
        return self._places

    @property
    def known(self) -> Mapping[ModelKey, Mapping[NodeId, Model]]:
        """All models with the nodes that have a file of it, also those that cannot use it."""
        return self._known

    @property
    def closed(self) -> bool:
        """Whether there are seats that take no answers for a time."""
        return bool(self._closed)

    def seats(self, key: ModelKey) -> Mapping[NodeId, Seat]:
        """Return the seats of a model: the nodes that can use its file."""
        return self._seats.get(key, {})

    def open_seats(self, key: ModelKey) -> Mapping[NodeId, Seat]:
        """Return the seats that take an answer at once."""
        return self._open.get(key, {})

    def seat(self, node_id: NodeId, key: ModelKey) -> Seat | None:
        """Return one seat."""
        return self._seats.get(key, {}).get(node_id)

    def seats_on(self, node_id: NodeId) -> Iterator[Seat]:
        """Yield the seats of a node."""
        for key in self._places[node_id].node.files:
            if seat := self.seat(node_id, key):
                yield seat

    def room_bytes(self, node_id: NodeId) -> int:
        """Return what a model may take on a node at most: what is free, and what ours hold."""
        node = self._places[node_id].node
        held = sum(
            seat.held_bytes
            for seat in self.seats_on(node_id)
            if seat.loaded is not None and not seat.loaded.pinned
        )
        return min(node.memory_free_bytes + held, node.memory_total_bytes)

    # --- what the nodes say --------------------------------------------------------------------

    def update(self, node: Node, now: float) -> None:
        """Take in what a node says of itself."""
        before = self._places.get(node.node_id)
        if before is None:
            not_before = self._back_off(node.node_id)
            place = Place(node, not_before, self._takes_work(node, not_before, now))
            self._places[node.node_id] = place
            self._set_models(place, {})
        else:
            place = replace(before, node=node, open=self._takes_work(node, before.not_before, now))
            self._places[node.node_id] = place
            if before.node.models != node.models:
                self._set_models(place, before.node.files)
        reopened = before is None or before.open != place.open
        for key in node.files:
            if seat := self.seat(node.node_id, key):
                self._take_in(seat, node.memory.get(key), now, sort=reopened)

    def suspect(self, node_id: NodeId) -> None:
        """Give a node no new work until it speaks again."""
        if place := self._places.get(node_id):
            self._places[node_id] = replace(place, open=False)
            for seat in self.seats_on(node_id):
                self._put(seat)

    def lose(self, node_id: NodeId, now: float) -> None:
        """Forget a node, but not that it was lost."""
        place = self._places.pop(node_id, None)
        if place is None:
            return
        for key in place.node.files:
            _discard(self._known, key, node_id)
            self._drop_seat(node_id, key)
        self.revision += 1
        recent = [at for at in self._losses.pop(node_id, ()) if now - at < FLAP_MEMORY_SECONDS]
        self._losses[node_id] = (*recent[-15:], now)
        if len(self._losses) > LOSSES_REMEMBERED:
            del self._losses[next(iter(self._losses))]

    def _set_models(self, place: Place, before: Iterable[ModelKey]) -> None:
        """Give a node the seats of its files; a seat that it had keeps what is known of it."""
        node_id, files = place.node.node_id, place.node.files
        for key in before:
            _discard(self._known, key, node_id)
            if key not in files or not files[key].usable:
                self._drop_seat(node_id, key)
        for key, model in files.items():
            self._known.setdefault(key, {})[node_id] = model
            if model.usable:
                seat = self.seat(node_id, key)
                self._put(replace(seat, model=model) if seat else self._new_seat(node_id, model))
        self.revision += 1

    def _new_seat(self, node_id: NodeId, model: Model) -> Seat:
        self._epochs += 1
        loading = model.key in self._places[node_id].bookings
        return Seat(node_id, model, self._epochs, loading=loading)

    def _drop_seat(self, node_id: NodeId, key: ModelKey) -> None:
        _discard(self._seats, key, node_id)
        _discard(self._open, key, node_id)
        self._closed.pop((node_id, key), None)

    def _take_in(self, seat: Seat, loaded: Loaded | None, now: float, *, sort: bool) -> None:
        """Note whether a model is in the node's memory, and who uses it."""
        if loaded is None and seat.loaded is None:
            if sort:
                self._put(seat)
            return
        if loaded is None:
            self._put(replace(seat, loaded=None, others=0, leaving=False))
            return
        self._unbook(seat.node_id, seat.key)  # what the node shows, it counts as taken itself
        new = seat.loaded is None
        others = max(0, loaded.asked - seat.in_flight)
        used = now if seat.in_flight or others else seat.last_used
        self._put(
            replace(
                seat,
                loaded=loaded,
                others=others,
                last_used=now - loaded.idle_seconds if new else used,
                loaded_since=now if new else seat.loaded_since,
            )
        )

    # --- what the scheduler does with seats ----------------------------------------------------

    def take(self, seat: Seat, now: float) -> None:
        """Note that an answer sits down."""
        self._put(replace(seat, in_flight=seat.in_flight + 1, last_used=now))

    def give_back(self, node_id: NodeId, key: ModelKey, epoch: int, now: float) -> None:
        """Note that an answer got up; nothing where the node is gone, or has been."""
        seat = self.seat(node_id, key)
        if seat is not None and seat.epoch == epoch:
            self._put(replace(seat, in_flight=seat.in_flight - 1, last_used=now))

    def begin_load(self, seat: Seat, evict: Sequence[ModelKey], now: float) -> None:
        """Promise a node's memory to a model."""
        place = self._places[seat.node_id]
        bookings = {**place.bookings, seat.key: seat.model.memory_needed_bytes}
        swaps = (*place.swaps[1 - SWAPS_REMEMBERED :], now) if evict else place.swaps
        self._places[seat.node_id] = replace(place, bookings=bookings, swaps=swaps)
        self._put(replace(seat, loading=True))
        for key in evict:
            self._put(replace(self._seats[key][seat.node_id], leaving=True))

    def end_load(self, node_id: NodeId, key: ModelKey) -> Seat | None:
        """Note that a load of ours is over; return its seat, if the node still has it."""
        self._unbook(node_id, key)
        seat = self.seat(node_id, key)
        if seat is not None and seat.loading:
            seat = replace(seat, loading=False)
            self._put(seat)
        return seat

    def warm_up(self, seat: Seat, now: float) -> None:
        """Note that a model is in memory; the node's next words say it with more numbers."""
        model, known = seat.model, seat.loaded
        if known is None or not known.ready:
            known = Loaded(model.key, model.slots, context_length=model.context_length)
        self._put(replace(seat, failures=0, loaded=known, last_used=now, loaded_since=now))

    def rest(self, seat: Seat, until: float, trouble: PotluckError, failures: int) -> None:
        """Note that a load failed or an engine died: it is not tried again for a time.

        Args:
            seat: Where.
            until: When it is tried again.
            trouble: What happened.
            failures: How many such in a row it counts for.
        """
        failures += seat.failures
        self._put(replace(seat, loaded=None, rests_until=until, trouble=trouble, failures=failures))
        for other in self.seats_on(seat.node_id):
            if other.leaving:  # whether it left, the node's next words say
                self._put(replace(other, leaving=False, loaded=None))

    def refresh(self, seat: Seat) -> None:
        """Note that the speed of a seat was learned anew."""
        self._put(seat)

    def close_seat(self, seat: Seat, until: float) -> None:
        """Let a seat take no answers for a time."""
        self._closed[seat.node_id, seat.key] = until
        self._put(replace(seat, closing_until=until))

    def reopen(self, now: float) -> list[ModelKey]:
        """Open the seats whose time of taking no answers is over; return their models."""
        over = [where for where, until in self._closed.items() if until <= now]
        for where in over:
            del self._closed[where]
            if seat := self.seat(*where):
                self._put(replace(seat, closing_until=0.0))
        return [key for _, key in over]

    def _unbook(self, node_id: NodeId, key: ModelKey) -> None:
        place = self._places.get(node_id)
        if place is not None and key in place.bookings:
            rest = {other: size for other, size in place.bookings.items() if other != key}
            self._places[node_id] = replace(place, bookings=rest)

    def _put(self, seat: Seat) -> None:
        """Put a seat in the place of what it was, among the open ones or not."""
        node = self._places[seat.node_id].node
        pace = self._speeds.seconds_per_token(node, seat.model, seat.busy + 1)
        if pace != seat.token_seconds:
            seat = replace(seat, token_seconds=pace)
        self._seats.setdefault(seat.key, {})[seat.node_id] = seat
        if self._is_open(seat):
            self._open.setdefault(seat.key, {})[seat.node_id] = seat
        else:
            _discard(self._open, seat.key, seat.node_id)

    def _is_open(self, seat: Seat) -> bool:
        takes = seat.warm and not seat.closing_until and seat.busy < seat.slots
        return takes and self._places[seat.node_id].open

    @staticmethod
    def _takes_work(node: Node, not_before: float, now: float) -> bool:
        return not node.draining and now >= not_before

    def _back_off(self, node_id: NodeId) -> float:
        """Return when a node that returns may get work: at once, unless it was lost before."""
        losses = self._losses.get(node_id, ())
        if len(losses) < 2:
            return 0.0
        return losses[-1] + min(self._longest_backoff_seconds, 2.0 ** (len(losses) - 2))

    def check_invariants(self) -> None:
        """Raise `AssertionError` where the state contradicts itself."""
        for node_id, place in self._places.items():
            seats = list(self.seats_on(node_id))
            assert {seat.key for seat in seats} == {
                m.key for m in place.node.files.values() if m.usable
            }
            for seat in seats:
                assert seat.in_flight >= 0
                assert bool(seat.closing_until) == ((node_id, seat.key) in self._closed)
                booked = seat.key in place.bookings
                assert not (booked and seat.loaded), "what is there needs no booking"
                assert seat.loading or not booked
                assert (self.open_seats(seat.key).get(node_id) is seat) == self._is_open(seat)
        for index in (self._seats, self._open, self._known):
            for at in index.values():
                assert at, "nothing empty is kept"
                assert at.keys() <= self._places.keys(), "nothing is kept of a node that is gone"
        assert len(self._losses) <= LOSSES_REMEMBERED


def _discard(index: Index[Value], key: ModelKey, node_id: NodeId) -> None:
    """Take a node out of an index; a key that is left without one goes too."""
    if (at := index.get(key)) is not None:
        at.pop(node_id, None)
        if not at:
            del index[key]
