"""A worker that is a real gRPC server and a fake everything else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from potluck_proto import PROTOCOL_VERSION, errors, network
from potluck_proto.errors import BadRequest, PotluckError
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.work import WorkStream

GIB = 2**30
Context = grpc.aio.ServicerContext[object, object]


def describe(
    name: str,
    quantization: str = "",
    needed_bytes: int = GIB,
    context_length: int = 4096,
    **facts: object,
) -> types.ModelDescription:
    """Return a model that a node could have."""
    return types.ModelDescription(
        name=name,
        quantization=quantization,
        memory_needed_bytes=needed_bytes,
        engines=["fake"],
        context_length=context_length,
        slots=4,
        **facts,  # type: ignore[arg-type]
    )


def deltas(words: list[str]) -> list[types.Delta]:
    """Return an answer of one token a word."""
    return [
        types.Delta(
            first_token_index=number,
            token_ids=[number],
            text_offset=len("".join(words[:number])),
            text=word,
        )
        for number, word in enumerate(words)
    ]


FOREIGN_TOKENS = 1_000
"""A worker that goes on from text alone counts tokens in its own way: here from so many on."""


def rest_of(
    script: list[types.Delta], so_far: pb.Continuation
) -> Iterator[tuple[int, types.Delta]]:
    """Yield what is left of an answer, with its place in the script, for one that moved here."""
    by_text = so_far.text and not so_far.token_ids
    for number, delta in enumerate(script):
        if by_text and delta.text_offset >= len(so_far.text):
            foreign = types.Delta()
            foreign.CopyFrom(delta)
            foreign.first_token_index += FOREIGN_TOKENS
            yield number, foreign
        elif not by_text and delta.first_token_index >= len(so_far.token_ids):
            yield number, delta


@dataclass(eq=False)
class FakeWorker(pb_grpc.WorkerServiceServicer):
    """Answers every prompt with `script`, as fast as `gate` lets it.

    Attributes:
        script: The deltas of the answer.
        gate: Awaited before each delta, with its number; replace it to pace, stall or fail.
        end: How the answer ends.
        asked: The requests that came.
        cancelled: How many answers were cut off by the caller.
        logs: The lines of each log: the worker's own under the empty name, and of models.
        new_lines: What whoever follows a log gets next.
        log_readers: How many read a log.
        arrived: Set when the model that is fetched shall be there.
        watts: What the machine draws, where it says it.
    """

    node_id: str = "fake-node"
    name: str = "fake"
    models: list[types.ModelDescription] = field(default_factory=lambda: [describe("echo")])
    free_bytes: int = 8 * GIB
    protocol_version: int = PROTOCOL_VERSION
    script: list[types.Delta] = field(default_factory=lambda: deltas(["one ", "two ", "three"]))
    gate: Callable[[int], Awaitable[object] | None] = lambda _: None
    end: types.End = field(default_factory=lambda: types.End(reason=types.END_REASON_END_OF_TURN))
    asked: list[pb.GenerateRequest] = field(default_factory=list)
    loaded: list[types.LoadedModel] = field(default_factory=list)
    fit: types.Fit = field(default_factory=lambda: types.Fit(fits=True))
    fit_asked: list[types.LoadOptions] = field(default_factory=list)
    inspected: list[pb.InspectRequest] = field(default_factory=list)
    templates: list[tuple[str, str, str]] = field(default_factory=list)
    searched: list[pb.SearchHubRequest] = field(default_factory=list)
    removed: list[pb.RemoveRequest] = field(default_factory=list)
    pulled: list[pb.PullRequest] = field(default_factory=list)
    stopped: list[pb.StopPullRequest] = field(default_factory=list)
    pulling: threading.Event = field(default_factory=threading.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    logs: dict[str, list[str]] = field(default_factory=lambda: {"": ["the worker's line"]})
    new_lines: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    log_readers: int = 0
    watts: float | None = None
    refusal: PotluckError | None = None
    cancelled: int = 0
    silent: bool = False
    draining: bool = False

    async def serve(self, path: Path) -> str:
        """Start on a unix socket; return the address."""
        self.server = grpc.aio.server(options=network.server_options())
        pb_grpc.add_WorkerServiceServicer_to_server(self, self.server)
        network.listen_unix(self.server, path)
        await self.server.start()
        return network.unix_address(path)

    async def die(self) -> None:
        """Break every connection at once."""
        await self.server.stop(None)

    def state(self) -> types.NodeState:
        """Return the node as it is now."""
        memory = types.Device(
            id="host",
            memory_free_bytes=self.free_bytes,
            memory_total_bytes=8 * GIB,
            watts=self.watts,
        )
        return types.NodeState(
            node_id=self.node_id,
            name=self.name,
            devices=[memory],
            models=self.models,
            loaded=self.loaded,
            draining=self.draining,
        )

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        return pb.DescribeResponse(protocol_version=self.protocol_version, state=self.state())

    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        while True:
            if not self.silent:
                yield pb.WatchResponse(state=self.state())
            await asyncio.sleep(0.1)

    async def Generate(
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        try:
            async for response in self.answer(request):
                yield response
        except PotluckError as error:
            await errors.abort(context, error)

    async def Work(
        self, request_iterator: AsyncIterator[pb.WorkRequest], context: Context
    ) -> AsyncIterator[pb.WorkResponse]:
        async for response in WorkStream(self.answer).run(request_iterator):
            yield response

    async def answer(self, request: pb.GenerateRequest) -> AsyncIterator[pb.GenerateResponse]:
        """Yield the script, or what is left of it."""
        self.asked.append(request)
        if self.refusal is not None:
            raise self.refusal
        try:
            for number, delta in rest_of(self.script, request.continuation):
                if (wait := self.gate(number)) is not None:
                    await wait
                yield pb.GenerateResponse(delta=delta)
            yield pb.GenerateResponse(end=self.end)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def Load(
        self, request: pb.LoadRequest, context: Context
    ) -> AsyncIterator[pb.LoadResponse]:
        model = types.LoadedModel(
            name=request.options.model, slots=4, state=types.MODEL_STATE_READY
        )
        self.loaded.append(model)
        yield pb.LoadResponse(fraction=1.0, loaded=model)

    async def Unload(self, request: pb.UnloadRequest, context: Context) -> pb.UnloadResponse:
        self.loaded.clear()
        return pb.UnloadResponse()

    async def Pin(self, request: pb.PinRequest, context: Context) -> pb.PinResponse:
        for model in self.loaded:
            model.pinned = request.pinned
        return pb.PinResponse()

    async def TakeCertificate(
        self, request: pb.TakeCertificateRequest, context: Context
    ) -> pb.TakeCertificateResponse:
        return pb.TakeCertificateResponse()

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        self.draining = request.draining
        return pb.DrainResponse()

    async def Fit(self, request: pb.FitRequest, context: Context) -> pb.FitResponse:
        self.fit_asked.append(request.options)
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        return pb.FitResponse(fit=self.fit)

    async def Inspect(self, request: pb.InspectRequest, context: Context) -> pb.InspectResponse:
        self.inspected.append(request)
        described = next(m for m in self.models if m.name == request.model)
        return pb.InspectResponse(detail=types.ModelDetail(description=described))

    async def HashModel(
        self, request: pb.HashModelRequest, context: Context
    ) -> AsyncIterator[pb.HashModelResponse]:
        yield pb.HashModelResponse(done_bytes=GIB, total_bytes=GIB)

    async def Remove(self, request: pb.RemoveRequest, context: Context) -> pb.RemoveResponse:
        self.removed.append(request)
        removal = types.Removal(path=f"/models/{request.model}.gguf", freed_bytes=GIB)
        return pb.RemoveResponse(removals=[removal])

    async def Add(self, request: pb.AddRequest, context: Context) -> pb.AddResponse:
        return pb.AddResponse(models=[describe("added")])

    async def SetTemplate(
        self, request: pb.SetTemplateRequest, context: Context
    ) -> pb.SetTemplateResponse:
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        self.templates.append((request.model, request.quantization, request.template))
        return pb.SetTemplateResponse()

    async def Prune(self, request: pb.PruneRequest, context: Context) -> pb.PruneResponse:
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        return pb.PruneResponse(removals=[types.Removal(path="/downloads/x", freed_bytes=GIB)])

    async def SearchHub(
        self, request: pb.SearchHubRequest, context: Context
    ) -> pb.SearchHubResponse:
        self.searched.append(request)
        found = [
            types.HubRepository(
                name=f"maker/{request.query}{more}",
                parameter_count=billions * 10**9,
                memory_needed_bytes=int(billions * 0.75 * GIB),
                quantizations=["Q8_0", "Q4_K_M"],
            )
            for more, billions in (("", 8), ("-large", 70))
        ]
        return pb.SearchHubResponse(repositories=found[: request.limit])

    async def ListHub(self, request: pb.ListHubRequest, context: Context) -> pb.ListHubResponse:
        repository = types.HubRepository(name=request.repository)
        variants = [types.HubVariant(name="Q8_0"), types.HubVariant(name="Q4_K_M")]
        return pb.ListHubResponse(repository=repository, variants=variants)

    async def ChooseVariant(
        self, request: pb.ChooseVariantRequest, context: Context
    ) -> pb.ChooseVariantResponse:
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        return pb.ChooseVariantResponse(variant=types.HubVariant(name="Q8_0"))

    async def Pull(
        self, request: pb.PullRequest, context: Context
    ) -> AsyncIterator[pb.PullResponse]:
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        self.pulled.append(request)
        self.pulling.set()
        half = types.Download(
            repository=request.repository,
            variant="Q8_0",
            done_bytes=GIB,
            total_bytes=2 * GIB,
            bytes_per_second=GIB / 8,
            seconds_left=8,
        )
        yield pb.PullResponse(download=half)
        await self.arrived.wait()
        yield pb.PullResponse(model=describe("new", "Q8_0"))

    async def SendModel(
        self, request: pb.SendModelRequest, context: Context
    ) -> AsyncIterator[pb.SendModelResponse]:
        yield pb.SendModelResponse()

    async def ReceiveModel(
        self, requests: AsyncIterator[pb.ReceiveModelRequest], context: Context
    ) -> AsyncIterator[pb.ReceiveModelResponse]:
        yield pb.ReceiveModelResponse(model=describe("copied"))

    async def StopPull(self, request: pb.StopPullRequest, context: Context) -> pb.StopPullResponse:
        self.stopped.append(request)
        return pb.StopPullResponse()

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        return pb.EmbedResponse()

    async def Logs(
        self, request: pb.LogsRequest, context: Context
    ) -> AsyncIterator[pb.LogsResponse]:
        if request.model not in self.logs:
            await errors.abort(context, BadRequest(f"{request.model} has no log on this node."))
        self.log_readers += 1
        try:
            yield pb.LogsResponse(
                lines=self.logs[request.model][-(request.lines or 100) :],
                models=sorted(filter(None, self.logs)),
            )
            while request.follow:
                yield pb.LogsResponse(lines=[await self.new_lines.get()])
        finally:
            self.log_readers -= 1
