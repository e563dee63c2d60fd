"""A node with what is thought of it, and a seat on it: a model, where an answer may sit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from potluck_proto.errors import PotluckError
from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import Loaded, Model, ModelKey, Node


@dataclass(frozen=True, slots=True)
class Place:
    """A node that answers, with what this scheduler thinks of it."""

    node: Node
    not_before: float = 0.0
    """It gets no work before this: it was lost too often."""
    open: bool = True
    """Whether it takes new work."""
    bookings: Mapping[ModelKey, int] = field(default_factory=dict)
    """Memory in bytes that is promised to loads of ours, as long as the node does not show them."""
    swaps: tuple[float, ...] = ()
    """When models made room for others here, the last few times."""

    @property
    def free_bytes(self) -> int:
        """Memory that is free and not promised."""
        if not self.bookings:
            return self.node.memory_free_bytes
        return max(0, self.node.memory_free_bytes - sum(self.bookings.values()))


@dataclass(frozen=True, slots=True)
class Seat:
    """A model on a node that can run it."""

    node_id: NodeId
    model: Model
    epoch: int
    """Another for each seat that comes to be: what sat here before a loss does not sit here now."""
    loaded: Loaded | None = None
    token_seconds: float = 0.0
    """What a token takes with one more answer than there are."""
    in_flight: int = 0
    """Answers that this scheduler has there."""
    others: int = 0
    """Answers that somebody else has there, by the node's last word."""
    loading: bool = False
    """A load of ours is under way."""
    leaving: bool = False
    """Its memory is promised to another model."""
    closing_until: float = 0.0
    """It takes no answers before this, so that a model that has waited long gets its memory."""
    rests_until: float = 0.0
    """It is not loaded before this: the last load failed, or the engine died."""
    failures: int = 0
    """Failed loads and dead engines in a row."""
    trouble: PotluckError | None = None
    """The last of them."""
    last_used: float = 0.0
    loaded_since: float = 0.0

    @property
    def key(self) -> ModelKey:
        """The model's key."""
        return self.model.key

    @property
    def busy(self) -> int:
        """Answers that are there, ours and others'."""
        return self.in_flight + self.others

    @property
    def slots(self) -> int:
        """Answers that it writes at once."""
        return self.loaded.slots if self.loaded else self.model.slots

    @property
    def warm(self) -> bool:
        """Whether the model is in memory and stays there."""
        return self.loaded is not None and self.loaded.ready and not self.leaving

    @property
    def on_its_way(self) -> bool:
        """Whether the model is being loaded."""
        if self.loaded is None or self.loaded.draining:
            return self.loading
        return self.loading or not self.loaded.ready

    @property
    def counted_on(self) -> bool:
        """Whether those who wait may wait for it: it is in memory or on its way, and not closed."""
        return (self.warm or self.on_its_way) and not self.closing_until

    @property
    def idle(self) -> bool:
        """Whether the model is in memory for nothing."""
        return self.warm and not self.loading and self.busy == 0

    @property
    def held_bytes(self) -> int:
        """Memory that it would give back."""
        if self.loaded is None:
            return 0
        return self.loaded.memory_bytes or self.model.memory_needed_bytes
