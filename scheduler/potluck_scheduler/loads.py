"""Loading a model on a worker, after what must leave its memory has left."""

from __future__ import annotations

from collections.abc import Sequence

from potluck_proto.ids import NodeId
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.core.model import ModelKey
from potluck_scheduler.nodes import NodeRegistry

UNLOAD_SECONDS = 30.0


async def load_model(
    nodes: NodeRegistry, node_id: NodeId, key: ModelKey, evict: Sequence[ModelKey] = ()
) -> None:
    """Free the models of `evict` where they are idle, then load one; return when it is in memory.

    Raises:
        PotluckError: What the worker said, or `NodeLost`.
    """
    with nodes.calling(node_id) as stub:
        for other in evict:
            unload = worker.UnloadRequest(
                model=other.name, quantization=other.quantization, only_idle=True
            )
            await stub.Unload(unload, timeout=UNLOAD_SECONDS)
        options = types.LoadOptions(model=key.name, quantization=key.quantization)
        async for _ in stub.Load(worker.LoadRequest(options=options)):
            pass
