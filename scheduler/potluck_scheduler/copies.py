"""Copying a model from one node to another: the scheduler passes on what one sends.

Nodes know the scheduler and not each other, so nothing new has to be opened between them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from potluck_proto.errors import LostError
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.core.model import ModelKey

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

REPORT_SECONDS = 0.5
HASH_SECONDS = 3600.0
"""A large model on a slow disk takes long to be read whole."""


async def hashing(
    key: ModelKey, source: WorkerServiceAsyncStub, source_name: str
) -> AsyncGenerator[tuple[types.Download, set[str]], None]:
    """Have a node read a model's weights; yield how far it is, and the hashes once it is through.

    Raises `grpc.aio.AioRpcError` where it refuses.
    """
    asked = worker.HashModelRequest(model=key.name, quantization=key.quantization)
    call = source.HashModel(asked, timeout=HASH_SECONDS)
    try:
        async for response in call:
            download = types.Download(
                repository=str(key),
                done_bytes=response.done_bytes,
                total_bytes=response.total_bytes,
                from_node=source_name,
                hashing=True,
            )
            yield download, {found.sha256 for found in response.hashes}
    finally:
        call.cancel()


async def copy(
    key: ModelKey,
    source: WorkerServiceAsyncStub,
    target: WorkerServiceAsyncStub,
    source_name: str,
    names: Mapping[str, str] | None = None,
) -> AsyncGenerator[types.Download | types.ModelDescription, None]:
    """Copy a model; yield how far it is, at last the model as the target lists it.

    Args:
        key: Which model.
        source: Has it.
        target: Gets it.
        source_name: What people call the source.
        names: What files are called at the target, by their hashes; others keep their names.

    Raises:
        LostError: A node ended the copy without a word.
        grpc.aio.AioRpcError: One refused, with its reason.
    """
    async with aclosing(hashing(key, source, source_name)) as reading:
        async for download, _ in reading:
            yield download
    asked = worker.SendModelRequest(model=key.name, quantization=key.quantization)
    offer = await _offer(source, asked)
    at_source = {}
    for file in offer.files:
        named = (names or {}).get(file.sha256, file.name)
        at_source[named], file.name = file.name, named
    progress = _Progress(
        str(key), source_name, {file.name: file.size_bytes for file in offer.files}
    )
    receiving = target.ReceiveModel()
    try:
        await receiving.write(worker.ReceiveModelRequest(offer=offer))
        async for response in receiving:
            if response.HasField("model"):
                yield response.model
                return
            wanted = response.wanted
            asked.file, asked.offset = at_source[wanted.file], wanted.offset
            progress.begin(wanted.file, wanted.offset)
            async for part in source.SendModel(asked):
                await receiving.write(worker.ReceiveModelRequest(data=part.data))
                if progress.add(len(part.data)):
                    yield progress.message()
            if not progress.is_through(wanted.file):
                raise LostError(f"{wanted.file} ended early: it changed meanwhile. Copy again.")
    finally:
        receiving.cancel()
    raise LostError("The copy ended before the model was there. Copy again to go on.")


async def _offer(
    source: WorkerServiceAsyncStub, asked: worker.SendModelRequest
) -> worker.ModelOffer:
    async for response in source.SendModel(asked):
        return response.offer
    raise LostError("The node that has the model offered nothing. Copy again.")


class _Progress:
    """How far a copy is, and how fast.

    Args:
        model: Its name.
        source_name: The node that it comes from.
        sizes: Bytes of each file, in the order in which they go.
    """

    def __init__(self, model: str, source_name: str, sizes: dict[str, int]) -> None:
        self._model = model
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
            repository=self._model,
            done_bytes=self._done,
            total_bytes=total,
            bytes_per_second=speed,
            seconds_left=(total - self._done) / speed if speed else None,
            from_node=self._source_name,
        )
