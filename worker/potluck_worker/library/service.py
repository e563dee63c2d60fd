"""The part of the worker's gRPC service that is about files of models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import AmbiguousModel
from potluck_proto.home import Home
from potluck_proto.rules import Context
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.convert_model import describe, detail, download, hub_repository, hub_variant
from potluck_worker.library.added import add
from potluck_worker.library.hashes import FileHash, Hashes, Reading
from potluck_worker.library.neighbour import Offer, Offered, Receiver, content, offer
from potluck_worker.library.pulls import Pulls
from potluck_worker.library.remote import choose, is_present
from potluck_worker.library.removal import Removal, delete, leftovers, removals_of
from potluck_worker.manager import ModelManager
from potluck_worker.models import ModelStore
from potluck_worker.stored_model import StoredModel

REPORT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Library:
    """The files of one node's models, and what is done with them."""

    home: Home
    store: ModelStore
    manager: ModelManager
    hashes: Hashes
    pulls: Pulls


class LibraryCalls(pb_grpc.WorkerServiceServicer):
    """Describes, fetches, copies, deletes and tidies up.

    Args:
        library: The files.
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    async def Inspect(self, request: pb.InspectRequest, context: Context) -> pb.InspectResponse:
        """Return all that a model's files say; their hashes where they are known or asked for."""
        hashes = self._library.hashes
        found = await self._library.store.look_up(request.model, request.quantization)
        read = await hashes.all(found.files) if request.hashes else hashes.known(found.files)
        return pb.InspectResponse(detail=detail(found, read))

    async def HashModel(
        self, request: pb.HashModelRequest, context: Context
    ) -> AsyncIterator[pb.HashModelResponse]:
        """Read a model's weights for their hashes; say how far it is."""
        library, reading = self._library, Reading()
        model = await library.store.look_up(request.model, request.quantization)
        size_bytes = model.file_bytes
        work = asyncio.create_task(library.hashes.all(model.files, reading))
        try:
            while not work.done():
                yield pb.HashModelResponse(done_bytes=reading.done_bytes, total_bytes=size_bytes)
                await asyncio.wait([work], timeout=REPORT_SECONDS)
        finally:
            reading.abandoned = True
            await asyncio.gather(work, return_exceptions=True)
        hashes = _hash_messages(work.result())
        yield pb.HashModelResponse(done_bytes=size_bytes, total_bytes=size_bytes, hashes=hashes)

    async def Add(self, request: pb.AddRequest, context: Context) -> pb.AddResponse:
        """See what lies at a path from now on."""
        models = await add(Path(request.path), self._library.store)
        return pb.AddResponse(models=map(describe, models))

    async def Remove(self, request: pb.RemoveRequest, context: Context) -> pb.RemoveResponse:
        """Delete a model's files, once nobody uses them."""
        library = self._library
        model = await library.store.look_up(request.model, request.quantization)
        self._require_one(model, request)
        removals = removals_of(model, library.home, library.store.added)
        if not request.dry_run:
            await library.manager.unload(model)
            for removal in removals:
                if removal.forgotten:
                    library.store.added.forget(removal.path)
            await asyncio.to_thread(delete, removals)
            await library.store.scan()
        return pb.RemoveResponse(removals=_messages(removals))

    def _require_one(self, model: StoredModel, request: pb.RemoveRequest) -> None:
        """Raise `AmbiguousModel` where a name without a quantization means several models."""
        same = [other for other in self._library.store.models if other.name == model.name]
        if len(same) > 1 and not request.quantization:
            there = ", ".join(f"{other.name}:{other.quantization}" for other in same)
            raise AmbiguousModel(f"{model.name} is several models: {there}. Say which to delete.")

    async def Prune(self, request: pb.PruneRequest, context: Context) -> pb.PruneResponse:
        """Delete what nobody needs."""
        library = self._library
        removals = await asyncio.to_thread(leftovers, library.home, library.store.models)
        if not request.dry_run:
            await asyncio.to_thread(delete, removals)
        return pb.PruneResponse(removals=_messages(removals))

    async def SetTemplate(
        self, request: pb.SetTemplateRequest, context: Context
    ) -> pb.SetTemplateResponse:
        """Give a model a prompt format, from the next load on."""
        store, manager = self._library.store, self._library.manager
        wanted = request.model, request.quantization, request.template
        for model in await store.choose_template(*wanted):
            await manager.unload(model)
        return pb.SetTemplateResponse()

    async def SearchHub(
        self, request: pb.SearchHubRequest, context: Context
    ) -> pb.SearchHubResponse:
        """Search the hub."""
        found = await self._library.pulls.search(request.query, request.limit)
        return pb.SearchHubResponse(repositories=map(hub_repository, found))

    async def ListHub(self, request: pb.ListHubRequest, context: Context) -> pb.ListHubResponse:
        """List what can be fetched of a repository."""
        pulls, home = self._library.pulls, self._library.home
        repository, found = await pulls.list_repository(request.repository)
        return pb.ListHubResponse(
            repository=hub_repository(repository),
            variants=[
                hub_variant(
                    variant,
                    repository.parameter_count,
                    present=is_present(variant, home.models),
                )
                for variant in found
            ],
        )

    async def ChooseVariant(
        self, request: pb.ChooseVariantRequest, context: Context
    ) -> pb.ChooseVariantResponse:
        """Say what a pull would fetch."""
        pulls, home = self._library.pulls, self._library.home
        repository, found = await pulls.list_repository(request.repository)
        chosen = choose(repository.name, found, request.variant, pulls.room_bytes)
        present = is_present(chosen, home.models)
        variant = hub_variant(chosen, repository.parameter_count, present=present)
        return pb.ChooseVariantResponse(variant=variant)

    async def Pull(
        self, request: pb.PullRequest, context: Context
    ) -> AsyncIterator[pb.PullResponse]:
        """Fetch a model; say how far it is."""
        pulls = self._library.pulls
        pull = pulls.start(request.repository, request.variant)
        async for _ in pulls.follow(pull):
            yield pb.PullResponse(download=download(pull))
        model = await pulls.result(pull)
        yield pb.PullResponse(download=download(pull))
        yield pb.PullResponse(model=describe(model))

    async def StopPull(self, request: pb.StopPullRequest, context: Context) -> pb.StopPullResponse:
        """End a fetch; what came is kept."""
        await self._library.pulls.stop(request.repository, request.variant)
        return pb.StopPullResponse()

    async def SendModel(
        self, request: pb.SendModelRequest, context: Context
    ) -> AsyncIterator[pb.SendModelResponse]:
        """Offer a model to another node, or send one of its files."""
        library = self._library
        model = await library.store.look_up(request.model, request.quantization)
        if request.file:
            async for data in content(model, request.file, request.offset):
                yield pb.SendModelResponse(data=data)
        else:
            found = await offer(model, library.hashes)
            yield pb.SendModelResponse(offer=_offer_message(found))

    async def ReceiveModel(
        self, requests: AsyncIterator[pb.ReceiveModelRequest], context: Context
    ) -> AsyncIterator[pb.ReceiveModelResponse]:
        """Take a copy of a model from another node."""
        library = self._library
        offered = _offer(await anext(requests, pb.ReceiveModelRequest()))
        receiver = Receiver(library.home, library.store, library.hashes, offered)
        data = (request.data async for request in requests)
        async for wanted in receiver.take(data):
            message = pb.FileWanted(file=wanted.file, offset=wanted.offset)
            yield pb.ReceiveModelResponse(wanted=message)
        model = next(m for m in library.store.models if m.path == receiver.first)
        yield pb.ReceiveModelResponse(model=describe(model))


def _offer_message(found: Offer) -> pb.ModelOffer:
    return pb.ModelOffer(folder=found.folder, files=_hash_messages(found.files))


def _hash_messages(files: Iterable[Offered | FileHash]) -> list[types.FileHash]:
    return [
        types.FileHash(name=file.name, sha256=file.sha256, size_bytes=file.size_bytes)
        for file in files
    ]


def _offer(request: pb.ReceiveModelRequest) -> Offer:
    files = [Offered(file.name, file.sha256, file.size_bytes) for file in request.offer.files]
    return Offer(request.offer.folder, files)


def _messages(removals: Iterable[Removal]) -> list[types.Removal]:
    return [
        types.Removal(
            path=str(r.path), freed_bytes=r.freed_bytes, reason=r.reason, forgotten=r.forgotten
        )
        for r in removals
    ]
