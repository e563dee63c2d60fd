"""All that a model's files say, asked from one node that has it."""

from __future__ import annotations

from potluck_proto.errors import NodeLost
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.fits import having_model
from potluck_scheduler.nodes import NodeRegistry

HASH_SECONDS = 3600.0
"""A large model on a slow disk takes long to be read whole."""

DESCRIBE_SECONDS = 30.0


async def describe_model(
    request: pb.DescribeModelRequest, nodes: NodeRegistry, configured_default: str
) -> pb.DescribeModelResponse:
    """Return what a node says of a model: one that can use it before one that cannot.

    Args:
        request: Which model, on which node.
        nodes: The workers.
        configured_default: For a request that names no model; empty lets the pool decide.

    Raises:
        PotluckError: As `having_model`, or the node is gone.
    """
    keys, having = having_model(request.model, request.node, nodes, configured_default)
    places = [
        (model.problem is None, model.bits_per_weight, node, key)
        for node in having
        for key in keys
        if (model := node.model(key)) is not None
    ]
    _, _, node, key = max(places, key=lambda place: place[:2])
    stub = nodes.stub(node.node_id)
    if stub is None:
        raise NodeLost(f"{node.name} is not connected any more.")
    asked = worker.InspectRequest(
        model=key.name, quantization=key.quantization, hashes=request.hashes
    )
    seconds = HASH_SECONDS if request.hashes else DESCRIBE_SECONDS
    response = await stub.Inspect(asked, timeout=seconds)
    return pb.DescribeModelResponse(detail=response.detail, node_name=node.name)
