"""Nodes, models, requests and a core in few words, for tests of the core."""

from __future__ import annotations

from potluck_proto.errors import EngineDied, NodeLost
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.events import (
    Cause,
    Dispatch,
    Event,
    Instruction,
    NodeUpdated,
    RequestEnded,
    RequestInterrupted,
    RequestSubmitted,
)
from potluck_scheduler.core.model import Loaded, Model, ModelKey, Node, Request
from potluck_scheduler.core.scheduler import Scheduler

GIB = 2**30
SMALL = ModelKey("small", "Q4_K_M")
LARGE = ModelKey("small", "Q8_0")
OTHER = ModelKey("other", "Q4_K_M")
THIRD = ModelKey("third", "Q4_K_M")


def model(key: ModelKey = SMALL, needs_gib: float = 2, **facts: object) -> Model:
    """Return a model file."""
    bits = {"Q4_K_M": 4.8, "Q8_0": 8.5}.get(key.quantization, 16.0)
    known: dict[str, object] = {
        "engines": ("llama",),
        "bits_per_weight": bits,
        "slots": 4,
        "context_length": 8192,
    }
    return Model(key, memory_needed_bytes=int(needs_gib * GIB), **(known | facts))  # type: ignore[arg-type]


def node(name: str, free_gib: float = 8, *models: Model, **facts: object) -> Node:
    """Return a node of 16 GiB, with the small model where none is named."""
    known: dict[str, object] = {"memory_total_bytes": 16 * GIB}
    return Node(
        NodeId(name),
        name,
        models=models or (model(),),
        memory_free_bytes=int(free_gib * GIB),
        **(known | facts),  # type: ignore[arg-type]
    )


def loaded(key: ModelKey = SMALL, busy: int = 0, **facts: object) -> Loaded:
    """Return a model in memory, of four slots and 2 GiB."""
    known: dict[str, object] = {"slots": 4, "memory_bytes": 2 * GIB}
    return Loaded(key, slots_busy=busy, **(known | facts))  # type: ignore[arg-type]


def warm(*held: Loaded) -> dict[str, object]:
    """Return what a node has in memory: the small model where none is named."""
    return {"loaded": held or (loaded(),)}


def request(typed: str = "small", name: str = "g", **facts: object) -> Request:
    """Return a request."""
    return Request(GenerationId(name), typed, **facts)  # type: ignore[arg-type]


DIED = EngineDied("The engine died.")


class Core:
    """A core, the time, and what it said."""

    def __init__(self, *nodes: Node, now: float = 1_000.0, **options: object) -> None:
        self.scheduler = Scheduler(validate=True, **options)  # type: ignore[arg-type]
        self.now = now
        for each in nodes:
            self(NodeUpdated(each))

    def __call__(self, event: Event, after: float = 0.0) -> list[Instruction]:
        self.now += after
        return self.scheduler.handle(event, self.now)

    def submit(self, name: str, typed: str = "small", **facts: object) -> list[Instruction]:
        return self(RequestSubmitted(request(typed, name, **facts)))

    def interrupt(
        self, name: str, cause: Cause = Cause.NODE_LOST, tokens: int = 0, **options: float
    ) -> list[Instruction]:
        error = {Cause.NODE_LOST: NodeLost("a was lost.")}.get(cause, DIED)
        event = RequestInterrupted(GenerationId(name), cause, error, tokens)
        return self(event, **options)

    def end(self, name: str) -> list[Instruction]:
        return self(RequestEnded(GenerationId(name)))


def nodes_of(instructions: list[Instruction]) -> list[str]:
    """Return where answers were sent."""
    return [each.node_id for each in instructions if isinstance(each, Dispatch)]
