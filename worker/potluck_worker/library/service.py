"""The part of the worker's gRPC service that is about files of models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import grpc

from potluck_proto import errors
from potluck_proto.errors import AmbiguousModel, PotluckError
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.convert_model import detail
from potluck_worker.library.hashes import Hashes
from potluck_worker.library.removal import Removal, delete, leftovers, removals_of
from potluck_worker.manager import ModelManager
from potluck_worker.models import ModelStore, StoredModel

Context = grpc.aio.ServicerContext[object, object]


@dataclass(frozen=True, slots=True)
class Library:
    """The files of one node's models, and what is done with them."""

    home: Home
    store: ModelStore
    manager: ModelManager
    hashes: Hashes


class LibraryCalls(pb_grpc.WorkerServiceServicer):
    """Describes, deletes and tidies up.

    Args:
        library: The files.
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    async def Inspect(self, request: pb.InspectRequest, context: Context) -> pb.InspectResponse:
        """Return all that a model's files say; their hashes where they are known or asked for."""
        hashes = self._library.hashes
        try:
            found = await self._library.store.look_up(request.model, request.quantization)
            read = await hashes.all(found.files) if request.hashes else hashes.known(found.files)
        except PotluckError as error:
            await errors.abort(context, error)
        return pb.InspectResponse(detail=detail(found, read))

    async def Remove(self, request: pb.RemoveRequest, context: Context) -> pb.RemoveResponse:
        """Delete a model's files, once nobody uses them."""
        try:
            removals = await self._remove(request)
        except PotluckError as error:
            await errors.abort(context, error)
        return pb.RemoveResponse(removals=_messages(removals))

    async def _remove(self, request: pb.RemoveRequest) -> list[Removal]:
        library = self._library
        model = await library.store.look_up(request.model, request.quantization)
        self._require_one(model, request)
        removals = removals_of(model, library.home)
        if not request.dry_run:
            await library.manager.unload(model)
            await asyncio.to_thread(delete, removals)
            await library.store.scan()
        return removals

    def _require_one(self, model: StoredModel, request: pb.RemoveRequest) -> None:
        """Raise `AmbiguousModel` where a name without a quantization means several models."""
        same = [other for other in self._library.store.models if other.name == model.name]
        if len(same) > 1 and not request.quantization:
            there = ", ".join(f"{other.name}:{other.quantization}" for other in same)
            raise AmbiguousModel(f"{model.name} is several models: {there}. Say which to delete.")

    async def Prune(self, request: pb.PruneRequest, context: Context) -> pb.PruneResponse:
        """Delete what nobody needs."""
        library = self._library
        try:
            removals = await asyncio.to_thread(leftovers, library.home, library.store.models, [])
            if not request.dry_run:
                await asyncio.to_thread(delete, removals)
        except PotluckError as error:
            await errors.abort(context, error)
        return pb.PruneResponse(removals=_messages(removals))


def _messages(removals: Iterable[Removal]) -> list[types.Removal]:
    return [
        types.Removal(path=str(r.path), freed_bytes=r.freed_bytes, reason=r.reason)
        for r in removals
    ]
