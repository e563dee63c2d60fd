"""What a model takes on each node that has it: the nodes are asked, all at once."""

from __future__ import annotations

import asyncio

from potluck_proto.errors import PotluckError
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.core.model import Node
from potluck_scheduler.named import having_model
from potluck_scheduler.nodes import NodeRegistry

FIT_SECONDS = 90.0
"""A node asks its engine in some seconds, once for each quantization that it has."""


async def fit_model(
    request: pb.FitModelRequest, nodes: NodeRegistry, configured_default: str
) -> pb.FitModelResponse:
    """Ask every node that has a model whether it fits.

    Args:
        request: Which model, on which nodes, held how.
        nodes: The workers.
        configured_default: For a request that names no model; empty lets the pool decide.

    Raises:
        NoNodes: No worker is connected.
        UnknownNode: None is called so.
        UnknownModel: None that may be asked has it.
    """
    keys, having = having_model(request.model, request.node, nodes, configured_default)
    options = types.LoadOptions()
    options.CopyFrom(request.options)
    options.model = keys[0].name
    # Of several quantizations, each node takes the best that fits there.
    options.quantization = keys[0].quantization if len(keys) == 1 else ""
    fits = await asyncio.gather(*(_ask(node, options, nodes) for node in having))
    return pb.FitModelResponse(nodes=fits)


async def _ask(node: Node, options: types.LoadOptions, nodes: NodeRegistry) -> pb.NodeFit:
    answer = pb.NodeFit(node_id=node.node_id, node_name=node.name)
    try:
        with nodes.calling(node.node_id) as stub:
            response = await stub.Fit(worker.FitRequest(options=options), timeout=FIT_SECONDS)
        answer.fit.CopyFrom(response.fit)
    except PotluckError as error:
        answer.problem.CopyFrom(error.to_proto())
    return answer
