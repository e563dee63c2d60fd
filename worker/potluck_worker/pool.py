"""The memory that models may take: one account of it, for all that load and all that are loaded.

A model is booked with what it will take at its peak. What it has taken already is missing in what
the system says is free, so only the rest is held back: nothing counts twice, half-way through a
load or later. What is booked is measured on the way, and given up when the model is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from potluck_proto.errors import NotEnoughMemory
from potluck_worker.cards import Cards
from potluck_worker.engines.sizing import HOST, Card, Estimate, Room
from potluck_worker.footprint import private_bytes
from potluck_worker.hardware import Memory
from potluck_worker.supervisor import EngineProcess


@dataclass(slots=True)
class Booking:
    """What a model was promised."""

    estimate: Estimate
    process: EngineProcess
    peak_bytes: dict[str, int] = field(default_factory=dict)
    """The most that was measured, by device."""


class MemoryPool:
    """Keeps the account.

    Args:
        cards: The cards of this machine.
        margin_bytes: What a load leaves free of main memory.
        card_margin_bytes: The same of each card.
        measure: Returns the machine's memory.
    """

    def __init__(
        self,
        cards: Cards,
        *,
        margin_bytes: int,
        card_margin_bytes: int,
        measure: Callable[[], Memory],
    ) -> None:
        self.cards = cards
        self._margin_bytes = margin_bytes
        self._card_margin_bytes = card_margin_bytes
        self._measure = measure
        self._bookings: dict[Hashable, Booking] = {}

    def book(self, key: Hashable, estimate: Estimate, process: EngineProcess) -> None:
        """Promise memory to a model that begins to load."""
        self._bookings[key] = Booking(estimate, process)

    def release(self, key: Hashable) -> None:
        """Give up what was promised."""
        del self._bookings[key]

    def name(self, device_id: str) -> str:
        """Return what people call a device."""
        return "main memory" if device_id == HOST else self._card(device_id).name

    def places(self, estimate: Estimate) -> list[str]:
        """Return where the cards that an estimate names are on the PCI bus."""
        return [
            self._card(share.device_id).bus_id
            for share in estimate.shares
            if share.device_id != HOST
        ]

    def total_bytes(self, device_id: str) -> int:
        """Return how large a device's memory is."""
        if device_id == HOST:
            return self._measure().total_bytes
        return self._card(device_id).memory_total_bytes

    def holds_some(self, key: Hashable, device_id: str) -> bool:
        """Say whether a model has memory of a device, or was promised some."""
        holding = self._holdings(key).get(device_id)
        return holding is not None and holding.promised_bytes > 0

    def margin_bytes(self, device_id: str) -> int:
        """Return what a load leaves free of a device."""
        return self._margin_bytes if device_id == HOST else self._card_margin_bytes

    def memory(self) -> Memory:
        """Return main memory; what is promised and not taken yet counts as taken."""
        return Memory(self._measure().total_bytes, max(0, self.free_bytes()[HOST]))

    def used_bytes(self) -> int:
        """Return what is taken of main memory, by whomever."""
        memory = self._measure()
        return memory.total_bytes - memory.free_bytes

    def free_bytes(self) -> dict[str, int]:
        """Return what is free and not promised, by device; below 0 where too much was promised."""
        free = self._measured_free()
        for key in self._bookings:
            for device_id, holding in self._holdings(key).items():
                free[device_id] = free.get(device_id, 0) - holding.owed_bytes
        return free

    def check(self, name: str, estimate: Estimate, idle: Sequence[str]) -> None:
        """Raise `NotEnoughMemory`, with all the numbers, where a model does not fit.

        Args:
            name: The model's.
            estimate: How it would be held.
            idle: Models in memory that nobody uses.
        """
        room = self.room()
        if room.holds(estimate):
            return
        taken = room.taken(estimate)
        tightest = min(taken, key=lambda device: room.free_bytes.get(device, 0) - taken[device])
        share, free_bytes = estimate.on(tightest), max(0, self.free_bytes().get(tightest, 0))
        advice = f"`potluck fit {name}` says what would fit"
        if idle:
            advice += f"; or unload {', '.join(idle)}"
        raise NotEnoughMemory(
            f"{name} needs {_gib(taken[tightest])} GiB ({_gib(share.weights_bytes)} weights, "
            f"{_gib(share.kv_cache_bytes)} KV cache, "
            f"{_gib(share.compute_bytes + share.process_bytes)} working memory) of "
            f"{self.name(tightest)} and {_gib(self.margin_bytes(tightest))} GiB kept free; "
            f"{_gib(free_bytes)} of {_gib(self.total_bytes(tightest))} GiB are free. {advice}.",
            needed_bytes=taken[tightest],
            free_bytes=free_bytes,
        )

    def room(self, without: Hashable = None) -> Room:
        """Return what another model may take.

        Args:
            without: A model that would make room for it.
        """
        free = self.free_bytes()
        if without in self._bookings:
            for device_id, holding in self._holdings(without).items():
                free[device_id] += holding.taken_bytes + holding.owed_bytes
        return self._room(free)

    def room_when_empty(self) -> Room:
        """Return what a model may take where no other is in memory."""
        free = self._measured_free()
        for key in self._bookings:
            for device_id, holding in self._holdings(key).items():
                free[device_id] = free.get(device_id, 0) + holding.taken_bytes
        return self._room(free)

    def short_devices(self, share: float) -> list[str]:
        """Return the devices that have less than a share of their margin free."""
        return [
            device_id
            for device_id, free_bytes in self.free_bytes().items()
            if free_bytes < share * self.margin_bytes(device_id)
        ]

    def look(self, key: Hashable) -> dict[str, int]:
        """Measure what a model has taken; return the most that it ever had, by device."""
        booking = self._bookings[key]
        for device_id, holding in self._holdings(key).items():
            if holding.measured:
                known_bytes = booking.peak_bytes.get(device_id, 0)
                booking.peak_bytes[device_id] = max(known_bytes, holding.taken_bytes)
        return dict(booking.peak_bytes)

    def taken_bytes(self, key: Hashable) -> int:
        """Return what a model has now, of all devices together."""
        holdings = self._holdings(key)
        return sum(
            holding.taken_bytes
            for device_id, holding in holdings.items()
            if device_id not in self._unified
        )

    @property
    def _unified(self) -> tuple[str, ...]:
        return tuple(card.id for card in self.cards.known if card.unified)

    def _room(self, free: dict[str, int]) -> Room:
        return Room(
            {
                device_id: max(0, free_bytes - self.margin_bytes(device_id))
                for device_id, free_bytes in free.items()
            },
            self._unified,
        )

    def _measured_free(self) -> dict[str, int]:
        cards = {card.id: self.cards.read(card).memory_free_bytes for card in self.cards.known}
        return {HOST: self._measure().free_bytes, **cards}

    def _holdings(self, key: Hashable) -> dict[str, _Holding]:
        """Return what a model was promised and has taken, by device."""
        booking = self._bookings[key]
        process = booking.process
        found = {}
        promised = Room({}, self._unified).taken(booking.estimate)
        for device_id, promised_bytes in promised.items():
            taken_bytes = self._taken_bytes(device_id, process.process_id)
            measured = taken_bytes is not None
            if taken_bytes is None:
                # Where nobody says what a process has of a card, it is all or nothing.
                taken_bytes = promised_bytes if process.loaded else 0
            found[device_id] = _Holding(promised_bytes, taken_bytes, measured)
        return found

    def _taken_bytes(self, device_id: str, process_id: int) -> int | None:
        """Return what a process has of a device, `None` where nobody says it."""
        if device_id == HOST:
            return private_bytes(process_id) if process_id else 0
        card = self._card(device_id)
        # What is free of a part of main memory, the engine says as if no other process had any.
        return 0 if card.unified else self.cards.read(card).used_by.get(process_id)

    def _card(self, device_id: str) -> Card:
        return next(card for card in self.cards.known if card.id == device_id)


@dataclass(frozen=True, slots=True)
class _Holding:
    """What a model has of one device."""

    promised_bytes: int
    taken_bytes: int
    measured: bool
    """Whether `taken_bytes` is, or was assumed."""

    @property
    def owed_bytes(self) -> int:
        """What was promised and is not taken yet."""
        return max(0, self.promised_bytes - self.taken_bytes)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f}"
