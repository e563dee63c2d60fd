"""The scheduler's gRPC service: a thin edge over the answers, the store, the nodes and the core."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from potluck_proto import PROTOCOL_VERSION, __version__, errors
from potluck_proto.errors import BadRequest, LimitReached, PotluckError, UnknownNode
from potluck_proto.home import Home
from potluck_proto.ids import ChatId, GenerationId
from potluck_proto.logs import read_log
from potluck_proto.pulse import Pulse
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.convert import explanation_to_proto, model_summaries
from potluck_scheduler.core.model import Decision, Request
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.edge import Context, or_abort
from potluck_scheduler.generations import Generation, Generations
from potluck_scheduler.logs import node_of_log, relay
from potluck_scheduler.nodes import NodeRegistry
from potluck_scheduler.nodes_service import Gatehouse, NodeCalls, node_message
from potluck_scheduler.store import ChatStore

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

WATCH_SECONDS = 0.5
"""A watcher hears of changes at most this often."""

WATCH_HEARTBEAT_SECONDS = 2.0
LOAD_SECONDS = 3600.0


class SchedulerService(NodeCalls):
    """Serves the viewers of one pool.

    Args:
        home: For the status.
        core: Decides.
        nodes: The workers.
        store: The chats.
        generations: The answers.
        pulse: Beats when the pool or a chat changed.
        gatehouse: Who belongs to the pool, and what a caller may ask for.
        default_model: From the settings; empty lets the pool decide.

    Attributes:
        chats_revision: Counts changes of chats.
        viewers: Open streams of viewers.
    """

    def __init__(
        self,
        home: Home,
        core: Scheduler,
        nodes: NodeRegistry,
        store: ChatStore,
        generations: Generations,
        pulse: Pulse,
        gatehouse: Gatehouse,
        default_model: str,
    ) -> None:
        super().__init__(nodes, gatehouse, pulse)
        self._limits = gatehouse.limits
        self._home = home
        self._core = core
        self._store = store
        self._generations = generations
        self._default_model = default_model
        self._started = time.monotonic()
        self.chats_revision = 0
        self.viewers = 0

    def chats_changed(self) -> None:
        """Note that a viewer should list the chats again."""
        self.chats_revision += 1
        self._pulse.beat()

    # --- answers -------------------------------------------------------------------------------

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        """Store a prompt, then begin its answer."""
        return await or_abort(self._submit(request), context)

    async def _submit(self, request: pb.SubmitRequest) -> pb.SubmitResponse:
        if not request.content.strip():
            raise BadRequest("The prompt is empty.")
        await self._check_size(request)
        if request.chat_id and self._generations.in_chat(ChatId(request.chat_id)):
            raise BadRequest("An answer is under way in this chat; wait for it or stop it first.")
        submission = await self._store.submit(request)
        if not submission.repeated:
            self._generations.start(submission, request)
        return pb.SubmitResponse(
            chat_id=submission.chat_id,
            user_message_id=submission.user_message_id,
            answer_message_id=submission.answer_message_id,
            generation_id=submission.generation_id,
        )

    async def _check_size(self, request: pb.SubmitRequest) -> None:
        """Raise `LimitReached` for a prompt that is too long, alone or with its chat."""
        limits, size_bytes = self._limits, len(request.content.encode())
        if size_bytes > limits.prompt_bytes:
            raise LimitReached(
                f"The prompt has {size_bytes:,} bytes; the limit is {limits.prompt_bytes:,} "
                "(limits.prompt_bytes)."
            )
        if request.chat_id:
            size_bytes += await self._store.chat_bytes(ChatId(request.chat_id))
            if size_bytes > limits.chat_bytes:
                raise LimitReached(
                    f"The chat would have {size_bytes:,} bytes; the limit is {limits.chat_bytes:,} "
                    "(limits.chat_bytes). Start a new one."
                )

    async def Attach(
        self, request: pb.AttachRequest, context: Context
    ) -> AsyncIterator[pb.AttachResponse]:
        """Show an answer from an offset on."""
        with self._viewer():
            try:
                generation_id = GenerationId(request.generation_id)
                async for response in self._generations.attach(generation_id, request.from_offset):
                    yield response
            except PotluckError as error:
                await errors.abort(context, error)

    async def Stop(self, request: pb.StopRequest, context: Context) -> pb.StopResponse:
        """End an answer."""
        await or_abort(self._generations.stop(GenerationId(request.generation_id)), context)
        return pb.StopResponse()

    # --- the pool ------------------------------------------------------------------------------

    async def WatchPool(
        self, request: pb.WatchPoolRequest, context: Context
    ) -> AsyncIterator[pb.WatchPoolResponse]:
        """Show the pool at once, then on changes."""
        with self._viewer():
            while True:
                beat = self._pulse.next_beat()
                yield pb.WatchPoolResponse(
                    nodes=map(node_message, self._nodes.connections()),
                    models=self._models(),
                    chats_revision=self.chats_revision,
                    active=map(_active, self._generations.active()),
                    strangers=self._gatehouse.discovery.strangers(),
                )
                await asyncio.sleep(WATCH_SECONDS)
                await asyncio.wait([beat], timeout=WATCH_HEARTBEAT_SECONDS - WATCH_SECONDS)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """List the pool's models."""
        return pb.ListModelsResponse(models=self._models())

    async def DrainNode(
        self, request: pb.DrainNodeRequest, context: Context
    ) -> pb.DrainNodeResponse:
        """Have a worker take no new work, or take it again."""

        async def drain() -> None:
            stub = self._stub(request.node)
            await stub.Drain(worker.DrainRequest(draining=request.draining))

        await or_abort(drain(), context)
        return pb.DrainNodeResponse()

    async def LoadModel(
        self, request: pb.LoadModelRequest, context: Context
    ) -> pb.LoadModelResponse:
        """Load a model where it would be placed now; return when it is in memory."""

        async def load() -> pb.LoadModelResponse:
            decision = self._decide(request.model, request.node)
            explanation = decision.explanation
            if decision.error is not None:
                raise decision.error
            options = worker.LoadOptions(
                model=explanation.model.name, quantization=explanation.model.quantization
            )
            stub = self._stub(explanation.node_id or "")
            async for _ in stub.Load(worker.LoadRequest(options=options), timeout=LOAD_SECONDS):
                pass
            return pb.LoadModelResponse(explanation=explanation_to_proto(explanation))

        return await or_abort(load(), context)

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: Context
    ) -> pb.UnloadModelResponse:
        """Free a model on one worker."""

        async def unload() -> None:
            name, _, quantization = request.model.partition(":")
            message = worker.UnloadRequest(model=name, quantization=quantization)
            await self._stub(request.node).Unload(message)

        await or_abort(unload(), context)
        return pb.UnloadModelResponse()

    async def ReadLogs(
        self, request: pb.ReadLogsRequest, context: Context
    ) -> AsyncIterator[pb.ReadLogsResponse]:
        """Show a log: the scheduler's own, or what a worker has."""
        with self._viewer():
            if request.scheduler:
                own_log = self._home.logs / "scheduler.log"
                async for lines in read_log(own_log, request.lines, request.follow):
                    yield pb.ReadLogsResponse(lines=lines)
                return
            try:
                node = request.node or node_of_log(
                    self._nodes.living_states(), request.model, self._nodes.local_node_id or ""
                )
                state = self.connection(node).state
                async for response in relay(self._stub(node), request, state.name if state else ""):
                    yield response
            except PotluckError as error:
                await errors.abort(context, error)
            except grpc.aio.AioRpcError as error:
                await errors.abort(context, errors.from_rpc(error, "The worker"))

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Say what would be decided now."""
        explanation = self._decide(request.model).explanation
        return pb.ExplainResponse(explanation=explanation_to_proto(explanation))

    # --- chats ---------------------------------------------------------------------------------

    async def ListChats(
        self, request: pb.ListChatsRequest, context: Context
    ) -> pb.ListChatsResponse:
        """List chats, a page at a time."""
        if request.page_token and not request.page_token.isdecimal():
            await errors.abort(context, BadRequest("The page token is not one of ours."))
        chats, token = await or_abort(
            self._store.list_chats(request.limit, request.page_token, request.include_archived),
            context,
        )
        for chat in chats:
            chat.active = self._generations.in_chat(ChatId(chat.chat_id)) is not None
        return pb.ListChatsResponse(chats=chats, next_page_token=token)

    async def GetChat(self, request: pb.GetChatRequest, context: Context) -> pb.GetChatResponse:
        """Return a chat; an answer under way with all that it has."""
        chat, messages = await or_abort(self._store.get_chat(ChatId(request.chat_id)), context)
        if generation := self._generations.in_chat(ChatId(request.chat_id)):
            chat.active = True
            for message in messages:
                if message.generation_id == generation.generation_id:
                    message.content = generation.text
        return pb.GetChatResponse(chat=chat, messages=messages)

    async def UpdateChat(
        self, request: pb.UpdateChatRequest, context: Context
    ) -> pb.UpdateChatResponse:
        """Change a chat."""
        chat = await or_abort(self._store.update_chat(request), context)
        self.chats_changed()
        return pb.UpdateChatResponse(chat=chat)

    async def DeleteChat(
        self, request: pb.DeleteChatRequest, context: Context
    ) -> pb.DeleteChatResponse:
        """Delete a chat; an answer under way in it ends."""
        chat_id = ChatId(request.chat_id)
        if generation := self._generations.in_chat(chat_id):
            await self._generations.stop(generation.generation_id)
        await or_abort(self._store.delete_chat(chat_id), context)
        self.chats_changed()
        return pb.DeleteChatResponse()

    async def SearchChats(
        self, request: pb.SearchChatsRequest, context: Context
    ) -> pb.SearchChatsResponse:
        """Search all messages."""
        hits = await or_abort(self._store.search(request.query, request.limit), context)
        return pb.SearchChatsResponse(hits=hits)

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """Say how the scheduler is."""
        return pb.GetStatusResponse(
            protocol_version=PROTOCOL_VERSION,
            version=__version__,
            process_id=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            home=str(self._home.root),
            nodes_ready=len(self._nodes.living_states()),
            chats=await or_abort(self._store.count_chats(), context),
            active_generations=len(self._generations.active()),
            viewers=self.viewers,
        )

    # --- parts ---------------------------------------------------------------------------------

    @contextmanager
    def _viewer(self) -> Iterator[None]:
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1

    def _models(self) -> list[pb.ModelSummary]:
        return model_summaries(self._nodes.living_states(), self._default_model)

    def _decide(self, model: str, node: str = "") -> Decision:
        asked = (node,) if node else ()
        return self._core.explain(Request(GenerationId(""), model, asked))

    def _stub(self, node: str) -> WorkerServiceAsyncStub:
        connection = self.connection(node)
        stub = connection.node_id and self._nodes.stub(connection.node_id)
        if not stub:
            raise UnknownNode(f"{node} is not connected now.")
        return stub


def _active(generation: Generation) -> pb.ActiveGeneration:
    phase = generation.progress.phase if generation.progress else types.PHASE_DECODING
    return pb.ActiveGeneration(
        generation_id=generation.generation_id,
        chat_id=generation.submission.chat_id,
        answer_message_id=generation.submission.answer_message_id,
        node_name=generation.explanation.node_name if generation.explanation else "",
        phase=phase,
    )
