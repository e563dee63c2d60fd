"""The worker's gRPC service: a thin edge over the store, the manager and the engines."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from potluck_proto import PROTOCOL_VERSION
from potluck_proto.logs import read_log
from potluck_proto.pulse import Pulse
from potluck_proto.rules import Context
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.convert import embed_frame, embed_response, generate_frame, response
from potluck_worker.convert_fit import fit_to_proto, options_of
from potluck_worker.engine_log import find_engine_log, logged_models
from potluck_worker.fitting import Fitter
from potluck_worker.library.service import Library, LibraryCalls
from potluck_worker.membership import Membership
from potluck_worker.pool import MemoryPool
from potluck_worker.state import NodeReporter
from potluck_worker.stored_model import StoredModel
from potluck_worker.supervisor import EngineProcess
from potluck_worker.work import WorkStream

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.5
"""A watcher hears from the node at least this often: it is the heartbeat."""

LOAD_REPORT_SECONDS = 0.2


class WorkerService(LibraryCalls):
    """Serves one node. What a method raises, the gate of `rules.py` tells the caller.

    Args:
        fitter: Asks what models would take.
        pool: The memory.
        reporter: Makes the node's state.
        pulse: Beats when the state changed.
        logs: Folder of the logs.
        membership: This worker's place in a pool.
        library: The models, in files and in memory.

    Attributes:
        watchers: Open `Watch` streams.
        generations: Requests to generate or embed that are under way.
    """

    def __init__(
        self,
        fitter: Fitter,
        pool: MemoryPool,
        reporter: NodeReporter,
        pulse: Pulse,
        logs: Path,
        membership: Membership,
        library: Library,
    ) -> None:
        LibraryCalls.__init__(self, library)
        self._store = library.store
        self._manager = library.manager
        self._fitter = fitter
        self._pool = pool
        self._reporter = reporter
        self._pulse = pulse
        self._membership = membership
        self._logs = logs
        self._numbers = itertools.count()
        self.watchers = 0
        self.generations = 0

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        """Return the node as it is now."""
        return pb.DescribeResponse(protocol_version=PROTOCOL_VERSION, state=self._reporter.report())

    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        """Yield the node's state at once, on each change, and as a heartbeat."""
        self.watchers += 1
        try:
            while True:
                yield pb.WatchResponse(
                    state=self._reporter.report(),
                    certificate_request=self._membership.certificate_request(),
                )
                await self._pulse.wait(WATCH_SECONDS)
        finally:
            self.watchers -= 1

    async def Fit(self, request: pb.FitRequest, context: Context) -> pb.FitResponse:
        """Say what a model takes, whether that is free, and what would fit instead."""
        found = await self._find(request.options.model, request.options.quantization)
        asked = options_of(request.options, found, self._store.adapter)
        verdict = await self._fitter.fit(found, asked)
        return pb.FitResponse(fit=fit_to_proto(verdict, self._pool))

    async def Load(
        self, request: pb.LoadRequest, context: Context
    ) -> AsyncIterator[pb.LoadResponse]:
        """Load a model, reporting how far it is."""
        found = await self._find(request.options.model, request.options.quantization)
        asked = options_of(request.options, found, self._store.adapter)
        loading = asyncio.create_task(self._manager.ensure_loaded(found, asked))
        try:
            async for fraction in self._progress(found, loading):
                yield pb.LoadResponse(fraction=fraction)
            await loading
        finally:
            loading.cancel()
        if (resident := self._manager.resident(found)) is not None:
            yield pb.LoadResponse(fraction=1.0, loaded=self._reporter.loaded_model(resident))

    async def Unload(self, request: pb.UnloadRequest, context: Context) -> pb.UnloadResponse:
        """Free a model, once its answers ended or `drain_seconds` passed."""
        found = await self._find(request.model, request.quantization)
        freed_bytes = await self._manager.unload(found, only_idle=request.only_idle)
        return pb.UnloadResponse(freed_bytes=freed_bytes)

    async def Pin(self, request: pb.PinRequest, context: Context) -> pb.PinResponse:
        """Keep a model when others need room, or no longer."""
        found = await self._find(request.model, request.quantization)
        self._manager.pin(found, request.pinned)
        return pb.PinResponse()

    async def Generate(
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Answer, loading the model first where needed.

        What fails before the engine has the request fails the call; after that, it is an `end`.
        """
        async with aclosing(self._answer(request)) as answer:
            async for said in answer:
                yield said

    async def Work(
        self, request_iterator: AsyncIterator[pb.WorkRequest], context: Context
    ) -> AsyncIterator[pb.WorkResponse]:
        """Answer as often as asked, until the stream ends."""
        async for said in WorkStream(self._answer).run(request_iterator):
            yield said

    async def _answer(
        self, request: pb.GenerateRequest
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """Yield what comes of a request. Raises `PotluckError` before the engine has it."""
        found = await self._find(request.model, request.quantization)
        loading = asyncio.create_task(self._manager.ensure_loaded(found))
        self.generations += 1
        try:
            frame = generate_frame(request, f"{request.generation_id}-{next(self._numbers)}")
            async for fraction in self._progress(found, loading):
                progress = types.Progress(phase=types.PHASE_LOADING, fraction=fraction)
                yield pb.GenerateResponse(progress=progress)
            engine = await loading
            async for event in engine.generate(frame):
                yield response(event)
        finally:
            loading.cancel()
            self.generations -= 1

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Return a vector of unit length for each input, loading the model first where needed."""
        found = await self._find(request.model, request.quantization)
        self.generations += 1
        try:
            frame = embed_frame(request, f"embed-{next(self._numbers)}")
            engine = await self._manager.ensure_loaded(found)
            return embed_response(await engine.embed(frame))
        finally:
            self.generations -= 1

    async def Logs(
        self, request: pb.LogsRequest, context: Context
    ) -> AsyncIterator[pb.LogsResponse]:
        """Show a log: of a model, loaded or not, or the worker's own."""
        path = self._logs / "worker.log"
        if request.model:
            path = find_engine_log(self._logs, request.model, request.quantization)
        models: list[str] | None = logged_models(self._logs)
        async for lines in read_log(path, request.lines, request.follow):
            yield pb.LogsResponse(lines=lines, models=models)
            models = None

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        """Take no new work and free the models, or take it again."""
        self._manager.drain(request.draining)
        return pb.DrainResponse()

    async def TakeCertificate(
        self, request: pb.TakeCertificateRequest, context: Context
    ) -> pb.TakeCertificateResponse:
        """Use the certificate that was asked for in the `Watch` stream."""
        self._membership.take(request.certificate)
        return pb.TakeCertificateResponse()

    async def _find(self, name: str, quantization: str) -> StoredModel:
        """Return the model that is meant. Raises `PotluckError`."""
        return await self._store.find(name, quantization, self._pool.room())

    async def _progress(
        self, model: StoredModel, loading: asyncio.Task[EngineProcess]
    ) -> AsyncIterator[float]:
        """Yield how far a load is until it is done; nothing for one that is."""
        while not (await asyncio.wait([loading], timeout=LOAD_REPORT_SECONDS))[0]:
            if (resident := self._manager.resident(model)) is not None:
                yield resident.process.load_fraction
