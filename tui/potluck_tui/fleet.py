"""Which machines are shown and in which order, how they were lately, and what they are doing.

The history is the viewer's own: it begins when the terminal opens and is gone with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from potluck_tui.pool import Health, NodeView, PoolView

SAMPLE_SECONDS = 5.0
SAMPLES_KEPT = 240
"""Twenty minutes: more than the widest screen shows."""

HOT_CELSIUS = 90.0
"""From here on cards slow down to protect themselves."""


class Sort(StrEnum):
    """What the machines are sorted by, in the word that the screen shows."""

    NAME = "name"
    STATE = "state"
    MEMORY = "free memory"
    SPEED = "tokens/s"
    QUEUE = "queue"
    TEMPERATURE = "temperature"


@dataclass(frozen=True, slots=True)
class Sample:
    """How a machine was in a few seconds: the most of each figure."""

    number: int
    """Which few seconds: samples of the same number are one."""
    tokens_per_second: float
    memory_share: float
    """Of its main device, in use by anybody: 0 to 1."""

    def with_more(self, other: Sample) -> Sample:
        """Return the most of two samples of the same time."""
        return Sample(
            self.number,
            max(self.tokens_per_second, other.tokens_per_second),
            max(self.memory_share, other.memory_share),
        )


@dataclass(frozen=True, slots=True)
class Loading:
    """A model on its way into memory."""

    label: str
    fraction: float
    file_bytes: int
    bytes_per_second: float = 0.0
    """Since it was first seen here; 0 before that can be told."""

    @property
    def done_bytes(self) -> int:
        """How much of it is there."""
        return int(self.fraction * self.file_bytes)

    @property
    def seconds_left(self) -> float | None:
        """How long it will take, at the speed until now."""
        if not self.bytes_per_second:
            return None
        return (self.file_bytes - self.done_bytes) / self.bytes_per_second


@dataclass(frozen=True, slots=True)
class _Begun:
    """When a load was first seen, and how far it was."""

    seconds: float
    fraction: float


class Fleet:
    """The machines as the reader wants to see them.

    Attributes:
        filter: Words that a machine must have all; one after `!` it must not have.
        sort: What they are sorted by.
        faults_only: Only those with something wrong.
        loading: What each machine loads, by its address.
    """

    def __init__(self) -> None:
        self.filter = ""
        self.sort = Sort.NAME
        self.faults_only = False
        self.loading: dict[str, tuple[Loading, ...]] = {}
        self._histories: dict[str, deque[Sample]] = {}
        self._begun: dict[tuple[str, str], _Begun] = {}

    def seen(self, pool: PoolView, seconds: float) -> None:
        """Remember how the pool is at a moment of a clock that only goes forward."""
        addresses = {node.address for node in pool.nodes}
        self._histories = {a: h for a, h in self._histories.items() if a in addresses}
        for node in pool.nodes:
            self._sample(node, int(seconds / SAMPLE_SECONDS))
        self._follow_loads(pool, seconds)

    def history(self, address: str) -> tuple[Sample, ...]:
        """Return how a machine was, oldest first."""
        return tuple(self._histories.get(address, ()))

    def shown(self, nodes: Iterable[NodeView]) -> list[NodeView]:
        """Return the machines that the reader wants to see, in the order they want."""
        words = self.filter.lower().split()
        found = [
            node
            for node in nodes
            if all(_matches(node, word) for word in words) and (fault(node) or not self.faults_only)
        ]
        return sorted(found, key=lambda node: (_rank(node, self.sort), node.name, node.address))

    def sort_by_next(self) -> None:
        """Sort by what comes next."""
        orders = list(Sort)
        self.sort = orders[(orders.index(self.sort) + 1) % len(orders)]

    def _sample(self, node: NodeView, number: int) -> None:
        history = self._histories.setdefault(node.address, deque(maxlen=SAMPLES_KEPT))
        device = node.main_device
        share = device.used_share if device is not None else 0.0
        alive = node.health in {Health.READY, Health.DRAINING, Health.SUSPECT}
        sample = Sample(number, node.tokens_per_second if alive else 0.0, share if alive else 0.0)
        if history and history[-1].number == number:
            history[-1] = history[-1].with_more(sample)
        else:
            history.append(sample)

    def _follow_loads(self, pool: PoolView, seconds: float) -> None:
        files = {model.label: model.file_bytes for model in pool.models}
        begun: dict[tuple[str, str], _Begun] = {}
        self.loading = {}
        for node in pool.nodes:
            for model in node.loaded:
                if model.load_fraction is None:
                    continue
                key = (node.address, model.label)
                first = begun[key] = self._begun.get(key, _Begun(seconds, model.load_fraction))
                file_bytes, elapsed = files.get(model.label, 0), seconds - first.seconds
                done = (model.load_fraction - first.fraction) * file_bytes
                speed = done / elapsed if elapsed > 0 else 0.0
                loading = Loading(model.label, model.load_fraction, file_bytes, speed)
                self.loading[node.address] = (*self.loading.get(node.address, ()), loading)
        self._begun = begun


def fault(node: NodeView) -> str:
    """Return what is wrong with a machine, in a sentence; empty where nothing is."""
    if node.problem:
        return node.problem
    if node.health not in {Health.READY, Health.DRAINING}:
        return f"{node.name} is {node.health}."
    advice = " ".join(engine.advice for engine in node.engines if not engine.available)
    if not any(engine.available for engine in node.engines):
        return advice or f"{node.name} has no engine."
    hot = node.temperature_celsius
    if hot is not None and hot >= HOT_CELSIUS:
        return f"{node.name} is at {hot:.0f} degrees; it slows down to protect itself."
    return ""


def _matches(node: NodeView, word: str) -> bool:
    inverse = word.startswith("!")
    return (word.removeprefix("!") in _searched(node)) != inverse or word == "!"


def _searched(node: NodeView) -> str:
    parts = [node.name, node.address, node.health, *node.tags]
    for device in node.devices:
        parts += [device.name, device.accelerator]
    parts += [model.label for model in node.loaded]
    return " ".join(parts).lower()


def _rank(node: NodeView, sort: Sort) -> float | str:
    """Return what a machine is sorted by: first what one looks for first."""
    device = node.main_device
    match sort:
        case Sort.NAME:
            return node.name
        case Sort.STATE:
            return [*Health].index(node.health)
        case Sort.MEMORY:
            return -(device.free_bytes if device is not None else 0)
        case Sort.SPEED:
            return -node.tokens_per_second
        case Sort.QUEUE:
            return -node.queue_length
        case Sort.TEMPERATURE:
            return -(node.temperature_celsius or 0.0)
