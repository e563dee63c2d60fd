"""The hub as a pool sees it: what of it the nodes would hold, and what of it one of them has."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from potluck_proto.errors import HubUnreachable, PotluckError
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.convert import node_from_proto
from potluck_scheduler.copies import hashing
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.nodes import NodeRegistry

HUB_SECONDS = 15.0
"""A worker gives a silent hub up before."""


def add_fit(found: types.HubRepository | types.HubVariant, nodes: Sequence[Node]) -> None:
    """Add which node would hold a model, or how much the roomiest lacks; nothing if unknown."""
    needed_bytes = found.memory_needed_bytes
    if not needed_bytes:
        return
    nodes = [node for node in nodes if not node.draining] or nodes

    def worth(node: Node) -> tuple[bool, int]:
        return _fast_bytes(node) >= needed_bytes, _room_bytes(node)

    best = max(nodes, key=worth)
    missing_bytes = max(0, needed_bytes - _room_bytes(best))
    found.fit.node_name = best.name
    found.fit.missing_bytes = missing_bytes
    found.fit.partly_offloaded = not missing_bytes and _fast_bytes(best) < needed_bytes


def _fast_bytes(node: Node) -> int:
    """Return what a model may take where it is fast; models in memory make way."""
    held_bytes = sum(loaded.memory_bytes for loaded in node.loaded)
    return min(node.memory_total_bytes, node.memory_free_bytes + held_bytes)


def _room_bytes(node: Node) -> int:
    return _fast_bytes(node) + node.spill_free_bytes


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A node that has what is to be fetched; it may be the one that would fetch it."""

    node: Node
    key: ModelKey
    names: Mapping[str, str] = field(default_factory=dict)
    """What the hub calls its files, by their hashes."""
    by_name: bool = False
    """It is the same by its name alone, as the hub cannot be reached."""


Search = AsyncGenerator[types.Download | Neighbour, None]
"""How far a node is that reads its files to compare them; at last, where there is one, who has the
model."""


async def find_neighbour(nodes: NodeRegistry, request: pb.PullModelRequest, target: Node) -> Search:
    """Look for a node with the very files that a pull would fetch; none where it is to fetch.

    Args:
        nodes: The workers.
        request: The pull.
        target: The node that would fetch. It is looked at first.

    Raises:
        HubUnreachable: The hub cannot be reached, and nobody has a model of that name.
        PotluckError: The worker refuses the pull, or is lost.
    """
    places = list(_places(nodes, target, request.repository))
    if not places:
        return
    asked = worker.ChooseVariantRequest(repository=request.repository, variant=request.variant)
    try:
        with nodes.calling(target.node_id) as stub:
            response = await stub.ChooseVariant(asked, timeout=HUB_SECONDS)
    except HubUnreachable:
        if (near := _named_so(request, target, places)) is None:
            raise
        yield near
        return
    async with aclosing(_with_the_files(nodes, response.variant, places)) as search:
        async for found in search:
            yield found


def _places(nodes: NodeRegistry, target: Node, repository: str) -> Iterator[tuple[Node, ModelKey]]:
    """Yield the models of all nodes, unless the target is fetching already."""
    states = nodes.living_states()
    for state in states:
        fetching = {download.repository.lower() for download in state.downloads}
        if state.node_id == target.node_id and repository.lower() in fetching:
            return
    living = sorted(map(node_from_proto, states), key=lambda n: n.node_id != target.node_id)
    for node in living:
        yield from ((node, key) for key, model in node.files.items() if not model.starter)


async def _with_the_files(
    nodes: NodeRegistry, variant: types.HubVariant, places: Sequence[tuple[Node, ModelKey]]
) -> Search:
    """Look for a node whose files have the hashes that the hub names; it may have to read them.

    The small files of a checkpoint have none there, so a checkpoint is always fetched.
    """
    names = {file.sha256: file.name.rpartition("/")[2] for file in variant.files}
    if variant.present or not names or "" in names:
        return
    for node, key in places:
        if node.files[key].file_bytes != variant.size_bytes:
            continue
        hashes: set[str] = set()
        try:
            async with aclosing(hashing(nodes, node, key)) as progress:
                async for download, found in progress:
                    hashes = found
                    yield download
        except PotluckError:
            continue  # the hub has it too
        if hashes == set(names):
            yield Neighbour(node, key, names)
            return


def _named_so(
    request: pb.PullModelRequest, target: Node, places: Sequence[tuple[Node, ModelKey]]
) -> Neighbour | None:
    """Return a node with the best model of the name that a repository's files would have."""
    same = [
        (node, key)
        for node, key in places
        if is_named_so(key, request)
        and node.files[key].usable
        # What the target has is as good as anything of that name.
        and (node.node_id == target.node_id or key not in target.files)
    ]
    best = max(same, key=lambda place: place[0].files[place[1]].bits_per_weight, default=None)
    return Neighbour(*best, by_name=True) if best is not None else None


def is_named_so(key: ModelKey, request: pb.PullModelRequest) -> bool:
    """Say whether a model has the name that a pull's repository or file would give it."""
    name, quantization = key.name.lower(), key.quantization.lower()
    wanted = request.variant.lower().rpartition("/")[2]
    if wanted.endswith(".gguf"):
        stem = wanted.removesuffix(".gguf")
        return stem in {name, *(f"{name}{sign}{quantization}" for sign in "-._")}
    repository = request.repository.lower().rpartition("/")[2]
    same = name == re.sub(r"[-_.]gguf$", "", repository)
    return same and wanted in ("", quantization)
