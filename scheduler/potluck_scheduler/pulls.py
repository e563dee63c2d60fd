"""Bringing a model to a node: from a neighbour that has it, else from the hub."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from potluck_proto.errors import NodeLost, PotluckError
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.arrivals import Arrival
from potluck_scheduler.calls import cancelling
from potluck_scheduler.copies import copy
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.hub import Neighbour, find_neighbour
from potluck_scheduler.nodes import NodeRegistry

log = logging.getLogger(__name__)


async def pull(
    nodes: NodeRegistry, request: pb.PullModelRequest, node: Node
) -> AsyncGenerator[pb.PullModelResponse, None]:
    """Bring a model to a node; yield how far it is, at last the model. Raises `PotluckError`."""
    arrival = Arrival.of(request.repository, request.variant)
    with nodes.arriving(node.node_id, arrival):
        async with aclosing(_from_a_neighbour(nodes, request, node, arrival)) as near:
            async for message in near:
                yield message
                if message.HasField("model"):
                    return
        arrival.check()
    async with aclosing(_from_the_hub(nodes, request, node)) as fetched:
        async for message in fetched:
            yield message


async def _from_the_hub(
    nodes: NodeRegistry, request: pb.PullModelRequest, node: Node
) -> AsyncGenerator[pb.PullModelResponse, None]:
    """Have a node fetch a model. Leaving does not end that."""
    asked = worker.PullRequest(repository=request.repository, variant=request.variant)
    with nodes.calling(node.node_id) as stub, cancelling(stub.Pull(asked)) as call:
        async for response in call:
            message = pb.PullModelResponse(node_name=node.name)
            if response.HasField("model"):
                message.model.CopyFrom(response.model)
            else:
                message.download.CopyFrom(response.download)
            yield message


async def _from_a_neighbour(
    nodes: NodeRegistry, request: pb.PullModelRequest, node: Node, arrival: Arrival
) -> AsyncGenerator[pb.PullModelResponse, None]:
    """Bring a model from the node that has it; yield no model where none does."""
    near = None
    async with aclosing(find_neighbour(nodes, request, node)) as search:
        async for found in search:
            if isinstance(found, Neighbour):
                near = found
            else:
                yield pb.PullModelResponse(node_name=node.name, download=arrival.note(found))
    if near is None:
        return
    said = pb.PullModelResponse(node_name=node.name, from_node=near.node.name, by_name=near.by_name)
    if near.node.node_id == node.node_id:
        said.model.CopyFrom(_described(nodes, node, near.key))
        yield said
        return
    try:
        async with aclosing(copy(nodes, near.key, near.node, node, near.names)) as events:
            async for event in events:
                arrival.add_to(said, event)
                yield said
    except PotluckError as error:
        if near.by_name or arrival.stopped:
            raise
        log.warning("not copied from %s, so fetched: %s", near.node.name, error.message)


def _described(nodes: NodeRegistry, node: Node, key: ModelKey) -> types.ModelDescription:
    """Return what a node says of one of its models. Raises `NodeLost`."""
    for state in nodes.living_states():
        for model in state.models:
            if (state.node_id, model.name, model.quantization) == (node.node_id, *key):
                return model
    raise NodeLost(f"{node.name} is not connected any more.")
