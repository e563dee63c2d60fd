"""Copying a model from one node to another: the scheduler passes on what one sends.

Nodes know the scheduler and not each other, so nothing new has to be opened between them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import grpc

from potluck_proto.errors import LostError
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.calls import cancelling
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.nodes import NodeRegistry

REPORT_SECONDS = 0.5
HASH_SECONDS = 3600.0
"""A large model on a slow disk takes long to be read whole."""

Receiving = grpc.aio.StreamStreamCall[worker.ReceiveModelRequest, worker.ReceiveModelResponse]


async def hashing(
    nodes: NodeRegistry, source: Node, key: ModelKey
) -> AsyncGenerator[tuple[types.Download, set[str]], None]:
    """Have a node read a model's weights; yield how far it is, and the hashes once it is through.

    Raises `PotluckError` where it refuses, or is lost.
    """
    asked = worker.HashModelRequest(model=key.name, quantization=key.quantization)
    with (
        nodes.calling(source.node_id) as stub,
        cancelling(stub.HashModel(asked, timeout=HASH_SECONDS)) as call,
    ):
        async for response in call:
            download = types.Download(
                repository=str(key),
                done_bytes=response.done_bytes,
                total_bytes=response.total_bytes,
                from_node=source.name,
                hashing=True,
            )
            yield download, {found.sha256 for found in response.hashes}


async def copy(
    nodes: NodeRegistry,
    key: ModelKey,
    source: Node,
    target: Node,
    names: Mapping[str, str],
) -> AsyncGenerator[types.Download | types.ModelDescription, None]:
    """Copy a model; yield how far it is, at last the model as the target lists it.

    Args:
        nodes: The workers.
        key: Which model.
        source: Has it.
        target: Gets it.
        names: What files are called at the target, by their hashes; others keep their names.

    Raises:
        LostError: A node ended the copy without a word, or was lost.
        PotluckError: One refused, with its reason.
    """
    async with aclosing(hashing(nodes, source, key)) as reading:
        async for download, _ in reading:
            yield download
    offer, at_source = _renamed(await _offer(nodes, source, key), names)
    progress = _Progress(key, source.name, {file.name: file.size_bytes for file in offer.files})
    with nodes.calling(target.node_id) as stub, cancelling(stub.ReceiveModel()) as receiving:
        await receiving.write(worker.ReceiveModelRequest(offer=offer))
        async for response in receiving:
            if response.HasField("model"):
                yield response.model
                return
            wanted = response.wanted
            progress.begin(wanted.file, wanted.offset)
            content = _content(nodes, source, key, at_source[wanted.file], wanted.offset)
            async with aclosing(_pass_on(content, receiving, progress)) as passing:
                async for message in passing:
                    yield message
            if not progress.is_through(wanted.file):
                raise LostError(f"{wanted.file} ended early: it changed meanwhile. Copy again.")
    raise LostError("The copy ended before the model was there. Copy again to go on.")


async def _offer(nodes: NodeRegistry, source: Node, key: ModelKey) -> worker.ModelOffer:
    """Return what a node would send of a model. Raises `PotluckError`."""
    asked = worker.SendModelRequest(model=key.name, quantization=key.quantization)
    with nodes.calling(source.node_id) as stub:
        async for response in stub.SendModel(asked):
            return response.offer
    raise LostError("The node that has the model offered nothing. Copy again.")


def _renamed(
    offer: worker.ModelOffer, names: Mapping[str, str]
) -> tuple[worker.ModelOffer, dict[str, str]]:
    """Return an offer with other names for its files, and by those what the files are called."""
    renamed, at_source = worker.ModelOffer(), {}
    renamed.CopyFrom(offer)
    for file in renamed.files:
        name = names.get(file.sha256, file.name)
        at_source[name], file.name = file.name, name
    return renamed, at_source


async def _content(
    nodes: NodeRegistry, source: Node, key: ModelKey, file: str, offset: int
) -> AsyncGenerator[bytes, None]:
    """Yield what a node sends of a file, from an offset on. Raises `PotluckError`."""
    asked = worker.SendModelRequest(
        model=key.name, quantization=key.quantization, file=file, offset=offset
    )
    with nodes.calling(source.node_id) as stub, cancelling(stub.SendModel(asked)) as call:
        async for part in call:
            yield part.data


async def _pass_on(
    content: AsyncGenerator[bytes, None], receiving: Receiving, progress: _Progress
) -> AsyncGenerator[types.Download, None]:
    """Write a file to the node that takes it; yield how far the copy is, now and then."""
    async with aclosing(content) as parts:
        async for data in parts:
            await receiving.write(worker.ReceiveModelRequest(data=data))
            if progress.add(len(data)):
                yield progress.message()


class _Progress:
    """How far a copy is, and how fast.

    Args:
        key: Which.
        source_name: The node that it comes from.
        sizes: Bytes of each file, in the order in which they go.
    """

    def __init__(self, key: ModelKey, source_name: str, sizes: dict[str, int]) -> None:
        self._key = key
        self._source_name = source_name
        self._sizes = sizes
        self._done = self._sent = 0
        self._started = self._reported = time.monotonic()

    def begin(self, file: str, offset: int) -> None:
        """Note that a file goes on from an offset; those before it are there."""
        names = list(self._sizes)
        before = names[: names.index(file)]
        self._done = sum(self._sizes[name] for name in before) + offset

    def add(self, sent_bytes: int) -> bool:
        """Note what was sent; say whether to report it."""
        self._done += sent_bytes
        self._sent += sent_bytes
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return False
        self._reported = now
        return True

    def is_through(self, file: str) -> bool:
        """Say whether all of a file was sent."""
        names = list(self._sizes)
        return self._done == sum(self._sizes[name] for name in names[: names.index(file) + 1])

    def message(self) -> types.Download:
        """Return how far it is."""
        total = sum(self._sizes.values())
        speed = self._sent / max(1e-6, time.monotonic() - self._started)
        return types.Download(
            repository=str(self._key),
            done_bytes=self._done,
            total_bytes=total,
            bytes_per_second=speed,
            seconds_left=(total - self._done) / speed if speed else None,
            from_node=self._source_name,
        )
