"""The part of the gRPC service that is about files of models: it asks the nodes that have them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from potluck_proto.errors import BadRequest, NodeLost, from_rpc
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.chat_service import Context, or_abort
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.fits import having_model, nodes_called
from potluck_scheduler.nodes import NodeRegistry

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

HASH_SECONDS = 3600.0
"""A large model on a slow disk takes long to be read whole."""

DESCRIBE_SECONDS = 30.0
REMOVE_SECONDS = 120.0
"""Answers under way get time to end first."""


class LibraryCalls(pb_grpc.SchedulerServiceServicer):
    """Describes, deletes and tidies up.

    Args:
        nodes: The workers.
        default_model: From the settings; empty lets the pool decide.
    """

    def __init__(self, nodes: NodeRegistry, default_model: str) -> None:
        self._registry = nodes
        self._configured_default = default_model

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """Say all that a model's files say."""
        return await or_abort(self._describe(request), context)

    async def _describe(self, request: pb.DescribeModelRequest) -> pb.DescribeModelResponse:
        """Return what a node says of a model: one that can use it before one that cannot."""
        having = having_model(request.model, request.node, self._registry, self._configured_default)
        places = _places(*having)
        _, _, node, key = max(places, key=lambda place: place[:2])
        response = await self._worker(node).Inspect(
            worker.InspectRequest(
                model=key.name, quantization=key.quantization, hashes=request.hashes
            ),
            timeout=HASH_SECONDS if request.hashes else DESCRIBE_SECONDS,
        )
        return pb.DescribeModelResponse(detail=response.detail, node_name=node.name)

    async def RemoveModel(
        self, request: pb.RemoveModelRequest, context: Context
    ) -> pb.RemoveModelResponse:
        """Delete a model's files on one node."""
        return await or_abort(self._remove(request), context)

    async def _remove(self, request: pb.RemoveModelRequest) -> pb.RemoveModelResponse:
        if not request.model:
            raise BadRequest("Say which model to delete.")
        keys, having = having_model(request.model, request.node, self._registry, "")
        if len(having) > 1:
            names = ", ".join(sorted(node.name for node in having))
            raise BadRequest(
                f"{request.model} is on several nodes: {names}. Say which with --node."
            )
        asked = worker.RemoveRequest(
            model=keys[0].name,
            quantization=keys[0].quantization if len(keys) == 1 else "",
            dry_run=request.dry_run,
        )
        response = await self._worker(having[0]).Remove(asked, timeout=REMOVE_SECONDS)
        return pb.RemoveModelResponse(node_name=having[0].name, removals=response.removals)

    async def PruneNodes(
        self, request: pb.PruneNodesRequest, context: Context
    ) -> pb.PruneNodesResponse:
        """Delete what nobody needs."""
        return await or_abort(self._prune(request), context)

    async def _prune(self, request: pb.PruneNodesRequest) -> pb.PruneNodesResponse:
        asked = nodes_called(request.node, self._registry)
        pruned = await asyncio.gather(*(self._prune_node(n, request.dry_run) for n in asked))
        return pb.PruneNodesResponse(nodes=pruned)

    async def _prune_node(self, node: Node, dry_run: bool) -> pb.NodePrune:
        answer = pb.NodePrune(node_name=node.name)
        try:
            response = await self._worker(node).Prune(
                worker.PruneRequest(dry_run=dry_run), timeout=REMOVE_SECONDS
            )
            answer.removals.extend(response.removals)
        except grpc.aio.AioRpcError as error:
            answer.problem.CopyFrom(from_rpc(error, node.name).to_proto())
        except NodeLost as error:
            answer.problem.CopyFrom(error.to_proto())
        return answer

    def _worker(self, node: Node) -> WorkerServiceAsyncStub:
        stub = self._registry.stub(node.node_id)
        if stub is None:
            raise NodeLost(f"{node.name} is not connected any more.")
        return stub


def _places(keys: list[ModelKey], having: list[Node]) -> list[tuple[bool, float, Node, ModelKey]]:
    """Return where the models are: whether they can be used there, and how good they are."""
    return [
        (model.problem is None, model.bits_per_weight, node, key)
        for node in having
        for key in keys
        if (model := node.model(key)) is not None
    ]
