"""Logs of workers for viewers: whose is meant, and passing it on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from potluck_proto.errors import BadRequest, NoNodes, UnknownModel
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.calls import cancelling
from potluck_scheduler.nodes import NodeRegistry


def node_of_log(states: Iterable[types.NodeState], model: str, local_node_id: str) -> str:
    """Return the id of the worker whose log is meant where none was named.

    Args:
        states: The workers that answer.
        model: As typed, `name` or `name:quantization`; empty for a worker's own log.
        local_node_id: The worker on the scheduler's machine; empty where none runs.

    Raises:
        PotluckError: None is meant, or several are.
    """
    states = list(states)
    if not states:
        raise NoNodes("No worker is connected, so no worker's log can be read.")
    if model:
        candidates = _in_memory(states, model) or _on_disk(states, model)
        if not candidates:
            raise UnknownModel(
                f"No node has a model {model!r}. `potluck models` lists them; for the log of one "
                "that is gone, say with --node where it was."
            )
    else:
        candidates = [state for state in states if state.node_id == local_node_id] or states
    if len(candidates) > 1:
        names = ", ".join(sorted(state.name for state in candidates))
        what = f"{model} is on several nodes" if model else "There are several nodes"
        raise BadRequest(f"{what}: {names}. Say which with --node.")
    return candidates[0].node_id


async def relay(
    nodes: NodeRegistry, node_id: NodeId, request: pb.ReadLogsRequest
) -> AsyncGenerator[pb.ReadLogsResponse, None]:
    """Yield what a worker sends of a log, until the viewer leaves. Raises `PotluckError`."""
    name, _, quantization = request.model.partition(":")
    asked = worker.LogsRequest(
        model=name, quantization=quantization, lines=request.lines, follow=request.follow
    )
    node_name = nodes.name(node_id)
    with nodes.calling(node_id) as stub, cancelling(stub.Logs(asked)) as call:
        async for response in call:
            yield pb.ReadLogsResponse(
                lines=response.lines, node_name=node_name, models=response.models
            )
            node_name = ""


def _in_memory(states: list[types.NodeState], model: str) -> list[types.NodeState]:
    return [s for s in states if any(_means(model, m.name, m.quantization) for m in s.loaded)]


def _on_disk(states: list[types.NodeState], model: str) -> list[types.NodeState]:
    return [s for s in states if any(_means(model, m.name, m.quantization) for m in s.models)]


def _means(typed: str, name: str, quantization: str) -> bool:
    return typed.lower() in (name.lower(), f"{name}:{quantization}".lower())
