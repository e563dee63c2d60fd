"""Where an answer goes: a chain of small named steps, each a pure function of snapshots.

The steps, in order: can the node at all; warm, with a free slot first; cold but fits in free
memory; refuse, with the numbers of every node. The first step that finds a place decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from potluck_proto.errors import (
    Draining,
    NoNodes,
    NotEnoughMemory,
    PotluckError,
    UnknownNode,
    UnsupportedModel,
)
from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import (
    Candidate,
    Decision,
    Explanation,
    Loaded,
    Model,
    ModelKey,
    Node,
    Request,
    Step,
    Verdict,
)
from potluck_scheduler.core.resolve import default_model, resolve

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Pool:
    """All that a decision may look at."""

    nodes: Sequence[Node]
    booked_bytes: Mapping[NodeId, int]
    """Memory promised to loads that the node does not show yet."""
    loading: AbstractSet[tuple[NodeId, ModelKey]]
    """The models of those loads."""
    in_flight: Mapping[tuple[NodeId, ModelKey], int]
    """Answers placed and not ended, by the scheduler's own count."""
    default_model: str = ""
    """From the settings; empty lets the pool decide."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node that can run the model, with what the decision needs to know of it."""

    node: Node
    model: Model
    loaded: Loaded | None
    free_bytes: int
    waiting: int
    """Answers that would be ahead in the queue."""
    busy: int

    @property
    def full(self) -> bool:
        """Whether a further answer would wait for a slot."""
        return self.loaded is not None and self.busy >= self.loaded.slots

    @property
    def fits(self) -> bool:
        """Whether the model fits into what is free and not promised."""
        return self.model.memory_needed_bytes <= self.free_bytes


def place(request: Request, pool: Pool) -> Decision:
    """Decide where an answer goes."""
    try:
        nodes = _asked_nodes(request, pool.nodes)
        keys = resolve(request.model or pool.default_model or default_model(nodes), nodes)
    except PotluckError as error:
        name = ModelKey(request.model, "")
        return Decision(Explanation(name, Step.REFUSED, error.message), error)
    refusals = []
    for key in keys:
        places, rejected = _able(key, nodes, pool)
        chosen = _warm(places) or _cold_fits(places)
        if chosen is not None:
            return _accept(chosen, places, rejected)
        refusals.append(_refuse(key, places, rejected))
    # Of several quantizations, none of which has a place, the smallest came nearest.
    return refusals[-1]


def _asked_nodes(request: Request, nodes: Sequence[Node]) -> list[Node]:
    """Step 0: the nodes that the request allows. Raises `NoNodes` or `UnknownNode`."""
    if not nodes:
        raise NoNodes(
            "No worker is connected. `potluck up` starts one on this machine; `potluck nodes` "
            "shows what was found."
        )
    if not request.nodes:
        return list(nodes)
    asked = [node for node in nodes if node.name in request.nodes or node.node_id in request.nodes]
    if not asked:
        there = ", ".join(node.name for node in nodes)
        wanted = ", ".join(request.nodes)
        raise UnknownNode(f"No node is called {wanted}. There are: {there}.")
    return asked


def _able(
    key: ModelKey, nodes: Sequence[Node], pool: Pool
) -> tuple[list[Place], list[tuple[Candidate, PotluckError | None]]]:
    """Step 1: which nodes can run the model at all, and why the others cannot."""
    places: list[Place] = []
    rejected: list[tuple[Candidate, PotluckError | None]] = []
    for node in nodes:
        model = node.model(key)
        if model is None:
            rejected.append((_reject(node, "does not have the file"), None))
        elif model.problem is not None:
            rejected.append((_reject(node, model.problem.message), model.problem))
        elif model.embeds_only:
            unable = UnsupportedModel(
                f"{key} embeds texts and cannot chat. Choose a model made for chat or completion."
            )
            rejected.append((_reject(node, "it only embeds"), unable))
        elif node.draining:
            error = Draining(f"{node.name} is being drained and takes no new work.")
            rejected.append((_reject(node, "is being drained"), error))
        elif (loaded := node.loaded_model(key)) is not None and loaded.draining:
            error = Draining(f"{node.name} is unloading {key}; ask again in a moment.")
            rejected.append((_reject(node, "is unloading it"), error))
        else:
            places.append(_look_at(node, model, pool))
    return places, rejected


def _look_at(node: Node, model: Model, pool: Pool) -> Place:
    loaded = node.loaded_model(model.key)
    if loaded is None and (node.node_id, model.key) in pool.loading:
        loaded = Loaded(model.key, model.slots)
    ours = pool.in_flight.get((node.node_id, model.key), 0)
    busy = max(ours, loaded.slots_busy + loaded.queue_length if loaded else 0)
    return Place(
        node=node,
        model=model,
        loaded=loaded,
        free_bytes=max(0, node.memory_free_bytes - pool.booked_bytes.get(node.node_id, 0)),
        waiting=max(0, busy - (loaded.slots if loaded else 0)),
        busy=busy,
    )


def _warm(places: Sequence[Place]) -> Place | None:
    """Step 2: where the model is in memory; a free slot, then the shortest queue."""
    warm = [place for place in places if place.loaded is not None]
    return min(warm, key=lambda place: (place.full, place.waiting, place.busy), default=None)


def _cold_fits(places: Sequence[Place]) -> Place | None:
    """Step 3: where the model fits into free memory; the node with the most of it."""
    cold = [place for place in places if place.loaded is None and place.fits]
    return max(cold, key=lambda place: place.free_bytes, default=None)


def _accept(
    chosen: Place, places: Sequence[Place], rejected: Sequence[tuple[Candidate, object]]
) -> Decision:
    candidates = [_candidate(place) for place in places]
    at = places.index(chosen)
    candidates[at] = replace(candidates[at], verdict=Verdict.CHOSEN)
    others = [c for c in (*candidates, *(c for c, _ in rejected)) if c is not candidates[at]]
    summary = candidates[at].reason
    if places[at].loaded is None and (passed := [c for c in others if c.needed_bytes]):
        summary += "; " + ", ".join(f"{c.node_name}: {c.reason}" for c in passed[:2])
    return Decision(
        Explanation(
            model=chosen.model.key,
            step=Step.WARM if chosen.loaded else Step.COLD_FITS,
            summary=summary,
            candidates=(candidates[at], *others),
            node_id=chosen.node.node_id,
            node_name=chosen.node.name,
        )
    )


def _refuse(
    key: ModelKey,
    places: Sequence[Place],
    rejected: Sequence[tuple[Candidate, PotluckError | None]],
) -> Decision:
    """The last step: say why not, with the numbers of every node, and what would work."""
    candidates = (*(_candidate(place) for place in places), *(c for c, _ in rejected))
    advice = ""
    if places:
        needed = min(place.model.memory_needed_bytes for place in places)
        numbers = ", ".join(
            f"{p.node.name} has {gib(p.free_bytes)} of {gib(p.node.memory_total_bytes)} GiB free"
            for p in places
        )
        advice = (
            f"`potluck fit {key}` says what would fit; or close other programs, or add a machine."
        )
        error: PotluckError = NotEnoughMemory(
            f"{key} needs {gib(needed)} GiB of memory; {numbers}. {advice}", needed_bytes=needed
        )
    else:
        # Some node has the file, or the name would not have been resolved.
        error = next(error for _, error in rejected if error is not None)
    return Decision(Explanation(key, Step.REFUSED, error.message, candidates, advice=advice), error)


def _candidate(place: Place) -> Candidate:
    """Return what is thought of a node that can run the model."""
    needed_bytes = 0 if place.loaded else place.model.memory_needed_bytes
    if place.loaded is not None:
        reason = (
            f"in memory, {min(place.busy, place.loaded.slots)} of {place.loaded.slots} slots busy"
        )
        if place.full:
            reason += f", {place.waiting} waiting"
    else:
        needed, free = gib(needed_bytes), gib(place.free_bytes)
        if place.fits:
            reason = f"loaded now, {needed} of {free} GiB free"
        else:
            reason = f"too small: needs {needed}, has {free} GiB free"
    return Candidate(
        node_id=place.node.node_id,
        node_name=place.node.name,
        verdict=Verdict.POSSIBLE if place.loaded or place.fits else Verdict.REJECTED,
        reason=reason,
        needed_bytes=needed_bytes,
        free_bytes=place.free_bytes,
        queue_length=place.waiting,
        tokens_per_second=place.loaded.tokens_per_second if place.loaded else 0.0,
    )


def _reject(node: Node, reason: str) -> Candidate:
    return Candidate(
        node.node_id, node.name, Verdict.REJECTED, reason, free_bytes=node.memory_free_bytes
    )


def gib(size_bytes: int) -> str:
    """Return a size in GiB for a person."""
    return f"{size_bytes / GIB:.1f}"
