"""The core's state, and the one door to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.events import (
    Dispatch,
    Event,
    Instruction,
    NodeLost,
    NodeUpdated,
    Refuse,
    RequestEnded,
    RequestSubmitted,
)
from potluck_scheduler.core.model import Decision, ModelKey, Node, Request, Step
from potluck_scheduler.core.policy import Pool, place


@dataclass(frozen=True, slots=True)
class Placed:
    """An answer that has a place."""

    node_id: NodeId
    model: ModelKey
    booked_bytes: int
    """Memory promised for the load that the answer waits for; 0 for a warm model."""


class Scheduler:
    """Decides where answers go.

    Its state is bounded by the nodes that answer and the answers under way. The view of the nodes
    is soft: lose it, and the nodes' next words rebuild it.

    Args:
        default_model: For requests that name none; empty lets the pool decide.
        validate: Check the invariants after every event; for tests, as it costs time.
    """

    def __init__(self, default_model: str = "", *, validate: bool = False) -> None:
        self._default_model = default_model
        self._validate = validate
        self._nodes: dict[NodeId, Node] = {}
        self._placed: dict[GenerationId, Placed] = {}

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in what happened; return what to do, in order.

        Args:
            event: What happened.
            now: Seconds on a clock that never goes back.
        """
        instructions: list[Instruction] = []
        match event:
            case NodeUpdated():
                self._nodes[event.node.node_id] = event.node
                self._release_bookings(event.node)
            case NodeLost():
                self._nodes.pop(event.node_id, None)
            case RequestEnded():
                self._placed.pop(event.generation_id, None)
            case RequestSubmitted():
                instructions.append(self._submit(event.request))
        if self._validate:
            self.check_invariants()
        return instructions

    def explain(self, request: Request) -> Decision:
        """Return what would be decided now."""
        return place(request, self._pool())

    def nodes(self) -> Iterable[Node]:
        """Return the nodes that answer."""
        return self._nodes.values()

    def check_invariants(self) -> None:
        """Raise `AssertionError` where the state contradicts itself."""
        bookings = [(p.node_id, p.model) for p in self._placed.values() if p.booked_bytes]
        assert len(bookings) == len(set(bookings)), "one load is booked once"
        for node_id, model in bookings:
            node = self._nodes.get(node_id)
            assert node is None or not node.loaded_model(model), "what is there needs no booking"

    def _submit(self, request: Request) -> Instruction:
        decision = place(request, self._pool())
        explanation = decision.explanation
        if decision.error is not None:
            return Refuse(request.generation_id, decision)
        assert explanation.node_id is not None
        cold = explanation.step is Step.COLD_FITS
        self._placed[request.generation_id] = Placed(
            explanation.node_id,
            explanation.model,
            booked_bytes=explanation.candidates[0].needed_bytes if cold else 0,
        )
        return Dispatch(request.generation_id, decision)

    def _release_bookings(self, node: Node) -> None:
        """Drop the bookings of loads that the node shows: it counts that memory as taken itself."""
        for generation_id, placed in self._placed.items():
            shown = placed.node_id == node.node_id and node.loaded_model(placed.model)
            if placed.booked_bytes and shown:
                self._placed[generation_id] = Placed(placed.node_id, placed.model, 0)

    def _booked(self) -> Counter[NodeId]:
        booked: Counter[NodeId] = Counter()
        for placed in self._placed.values():
            booked[placed.node_id] += placed.booked_bytes
        return booked

    def _pool(self) -> Pool:
        return Pool(
            nodes=list(self._nodes.values()),
            booked_bytes=self._booked(),
            loading={(p.node_id, p.model) for p in self._placed.values() if p.booked_bytes},
            in_flight=Counter((p.node_id, p.model) for p in self._placed.values()),
            default_model=self._default_model,
        )
