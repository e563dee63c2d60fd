"""What a model takes on each node that has it: the nodes are asked, all at once."""

from __future__ import annotations

import asyncio

from potluck_proto.errors import NoNodes, PotluckError, UnknownModel, UnknownNode
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.convert import node_from_proto
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.core.resolve import default_model, resolve
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


def having_model(
    typed: str, node_name: str, nodes: NodeRegistry, configured_default: str
) -> tuple[list[ModelKey], list[Node]]:
    """Return the models that a typed name means, the best first, and the nodes that have one.

    Args:
        typed: `name` or `name:quantization`; empty means the pool's default.
        node_name: Name, id or address of the one that may be asked; empty means all.
        nodes: The workers.
        configured_default: Empty lets the pool decide.

    Raises:
        NoNodes: No worker is connected.
        UnknownNode: None is called so.
        UnknownModel: None that may be asked has it.
    """
    asked = nodes_called(node_name, nodes)
    typed = typed or configured_default or default_model(asked)
    there = nodes_called("", nodes)
    keys = resolve(typed, {key: model for node in there for key, model in node.files.items()})
    having = [node for node in asked if any(key in node.files for key in keys)]
    if not having:
        raise UnknownModel(f"{node_name} does not have {typed}.", model=typed)
    return keys, having


def nodes_called(name: str, nodes: NodeRegistry) -> list[Node]:
    """Return the living nodes that a name, id or address means; empty means all.

    Raises:
        NoNodes: No worker is connected.
        UnknownNode: None is called so.
    """
    there = [node_from_proto(state) for state in nodes.living_states()]
    if not there:
        raise NoNodes("No worker is connected. `potluck up` starts one on this machine.")
    called = [node for node in there if _is_meant(node, name, nodes)]
    if not called:
        names = ", ".join(node.name for node in there)
        raise UnknownNode(f"No node is called {name!r}. There are: {names}.")
    return called


def _is_meant(node: Node, asked: str, nodes: NodeRegistry) -> bool:
    """Say whether a node is the one that was asked for by name, id or address."""
    if not asked:
        return True
    connection = nodes.find(asked)
    return connection is not None and connection.node_id == node.node_id


async def _ask(node: Node, options: types.LoadOptions, nodes: NodeRegistry) -> pb.NodeFit:
    answer = pb.NodeFit(node_id=node.node_id, node_name=node.name)
    try:
        with nodes.calling(node.node_id) as stub:
            response = await stub.Fit(worker.FitRequest(options=options), timeout=FIT_SECONDS)
        answer.fit.CopyFrom(response.fit)
    except PotluckError as error:
        answer.problem.CopyFrom(error.to_proto())
    return answer
