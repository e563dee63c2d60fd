"""A scheduler for tests of viewers: real gRPC on a unix socket, everything else by hand.

A test fills `chats` and `pool`, says with `replies` how the next answers come, and looks at what
the viewer asked for. An answer without a reply stays open until the test writes to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

import grpc
from google.protobuf.message import Message

from potluck_proto import PROTOCOL_VERSION, network
from potluck_proto.errors import (
    BadRequest,
    HubError,
    OffsetNotReached,
    PotluckError,
    UnknownChat,
    UnknownGeneration,
    UnknownModel,
    abort,
)
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc, types_pb2

Context = grpc.aio.ServicerContext[object, object]

HEARTBEAT_SECONDS = 2.0

COMPLETE = types_pb2.End(
    reason=types_pb2.END_REASON_END_OF_TURN,
    usage=types_pb2.Usage(
        prompt_tokens=20,
        completion_tokens=96,
        tokens_per_second=42.4,
        time_to_first_token_seconds=0.31,
    ),
)


@dataclass(slots=True)
class Reply:
    """How one answer comes."""

    pieces: Sequence[str]
    seconds_between: float = 0.0
    end: types_pb2.End = field(default_factory=lambda: COMPLETE)
    reason: str = "studio: in memory, 1 of 4 slots busy"


class FakeAnswer:
    """One answer: text that grows, and an end."""

    def __init__(self, chat_id: str, message: pb.StoredMessage, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self.chat_id = chat_id
        self.message = message
        self.viewers = 0
        self._events: list[pb.AnswerEvent] = []
        self._changed = asyncio.Condition()

    async def write(self, text: str) -> None:
        """Add text to the answer."""
        self.message.content += text
        await self._wake()

    async def place(self, reason: str) -> None:
        """Say where it runs and why."""
        self.message.explanation.summary = reason
        await self.send(pb.AnswerEvent(placed=self.message.explanation))

    async def send(self, event: pb.AnswerEvent) -> None:
        """Send something that is not text to whoever is attached or will be."""
        self._events.append(event)
        await self._wake()

    async def end(self, end: types_pb2.End | None = None) -> None:
        """End the answer."""
        if not self.message.HasField("end"):
            self.message.end.CopyFrom(end or COMPLETE)
            self._on_end()
            await self._wake()

    async def play(self, reply: Reply) -> None:
        """Let the answer come as a reply says."""
        await self.place(reply.reason)
        for piece in reply.pieces:
            await asyncio.sleep(reply.seconds_between)
            await self.write(piece)
        await self.end(reply.end)

    async def follow(self, offset: int) -> AsyncIterator[pb.AnswerEvent]:
        """Yield what a viewer gets that has the text up to an offset."""
        seen = 0
        self.viewers += 1
        try:
            while True:
                for event in self._events[seen:]:
                    yield event
                seen = len(self._events)
                if text := self.message.content[offset:]:
                    yield pb.AnswerEvent(delta=types_pb2.Delta(text_offset=offset, text=text))
                    offset += len(text)
                    continue
                if self.message.HasField("end"):
                    yield pb.AnswerEvent(end=self.message.end)
                    return
                async with self._changed:
                    if seen == len(self._events) and offset == len(self.message.content):
                        if self.message.HasField("end"):
                            continue
                        await self._changed.wait()
        finally:
            self.viewers -= 1

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class FakeScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """A scheduler that does what a test says.

    Args:
        socket: Where to listen.
        now_unix_seconds: The time of everything that happens.
    """

    def __init__(self, socket: Path, now_unix_seconds: float = 1_800_000_000.0) -> None:
        self.socket = socket
        self.now = now_unix_seconds
        self.pool = pb.WatchPoolResponse()
        self.chats: dict[str, pb.GetChatResponse] = {}
        self.deleted: dict[str, pb.GetChatResponse] = {}
        self.hits: list[pb.SearchHit] = []
        """What every search finds."""
        self.presets: list[pb.Preset] = []
        self.answers: dict[str, FakeAnswer] = {}
        self.replies: deque[Reply | PotluckError] = deque()
        """How the next submissions turn out; an error refuses one."""
        self.logs: dict[str, list[str]] = {"": []}
        """The lines of each log: of the worker under the empty name, and of models."""
        self.log_readers = 0
        self.orders: list[Message] = []
        """What machines were told, as it came."""
        self.fits: dict[str, list[pb.NodeFit]] = {}
        """What each model takes, by its label."""
        self.details: dict[str, types_pb2.ModelDetail] = {}
        """What the files of each model say, by its label."""
        self.recommended = pb.RecommendResponse(catalogue_date="2026-11-24")
        self.repositories: dict[str, pb.ListRepositoryResponse] = {}
        """What the hub has; without any, it cannot be reached."""
        self.fetched = asyncio.Event()
        """Every fetch ends when it is set: with `fetch_problem`, if there is one."""
        self.fetch_problem: PotluckError | None = None
        self.decisions: list[types_pb2.Explanation] = []
        self.protocol_version = PROTOCOL_VERSION
        self.frozen = False
        """Says nothing to those who watch the pool unless it changes."""
        self.submitted: list[pb.SubmitRequest] = []
        self.stopped: list[str] = []
        self._server: grpc.aio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool_changed = asyncio.Event()
        self._log_grew = asyncio.Event()
        self._count = 0

    @property
    def address(self) -> str:
        """What a client dials."""
        return network.unix_address(self.socket)

    @property
    def last_answer(self) -> FakeAnswer:
        """The answer to the newest submission."""
        return list(self.answers.values())[-1]

    async def start(self) -> None:
        """Listen."""
        self._server = grpc.aio.server(options=network.server_options())
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(self, self._server)
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        network.listen_unix(self._server, self.socket)
        await self._server.start()

    async def stop(self) -> None:
        """Go away at once; chats and answers stay for the next `start`."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def close(self) -> None:
        """Go away for good."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.stop()

    def add_chat(
        self, chat_id: str, title: str, *turns: tuple[str, str], age_seconds: float = 60.0
    ) -> pb.GetChatResponse:
        """Add a chat of questions with their complete answers."""
        chat = self.chats[chat_id] = pb.GetChatResponse(
            chat=pb.Chat(chat_id=chat_id, title=title, updated_unix_seconds=self.now - age_seconds)
        )
        for question, answer in turns:
            _, stored = self._add_turn(chat, question)
            stored.content = answer
            stored.model = "llama-3.1-8b-instruct:Q4_K_M"
            stored.explanation.summary = "studio: in memory, 1 of 4 slots busy"
            stored.end.CopyFrom(COMPLETE)
        return chat

    def write_log(self, model: str, *lines: str) -> None:
        """Add lines to a log, for whoever follows it too."""
        self.logs.setdefault(model, []).extend(lines)
        self._log_grew.set()
        self._log_grew = asyncio.Event()

    def change_pool(self, pool: pb.WatchPoolResponse) -> None:
        """Show another pool to whoever watches."""
        pool.chats_revision = self.pool.chats_revision
        self.pool = pool
        self._chats_changed()

    def _chats_changed(self) -> None:
        self.pool.chats_revision += 1
        self._pool_changed.set()
        self._pool_changed = asyncio.Event()

    def _add_turn(
        self, chat: pb.GetChatResponse, question: str
    ) -> tuple[pb.StoredMessage, pb.StoredMessage]:
        self._count += 1
        parent = chat.messages[-1].message_id if chat.messages else ""
        user = chat.messages.add(
            message_id=f"u{self._count}",
            parent_message_id=parent,
            role=types_pb2.ROLE_USER,
            content=question,
            sibling_ids=[f"u{self._count}"],
            shown=True,
        )
        answer = chat.messages.add(
            message_id=f"a{self._count}",
            parent_message_id=user.message_id,
            role=types_pb2.ROLE_ASSISTANT,
            generation_id=f"g{self._count}",
            sibling_ids=[f"a{self._count}"],
            shown=True,
        )
        chat.chat.message_count = len(chat.messages)
        chat.chat.revision += 1
        return user, answer

    # --- The service -----------------------------------------------------------------------------

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        self.submitted.append(request)
        reply = self.replies.popleft() if self.replies else None
        if isinstance(reply, PotluckError):
            await abort(context, reply)
        chat_id = request.chat_id or f"c{len(self.chats) + 1}"
        if chat_id not in self.chats:
            self.add_chat(chat_id, request.content[:40], age_seconds=0)
        chat = self.chats[chat_id]
        chat.chat.model = request.model or chat.chat.model
        user, stored = self._add_turn(chat, request.content)
        answer = self.answers[stored.generation_id] = FakeAnswer(
            chat_id, stored, self._chats_changed
        )
        self._chats_changed()
        if reply is not None:
            task = asyncio.create_task(answer.play(reply))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return pb.SubmitResponse(
            chat_id=chat_id,
            user_message_id=user.message_id,
            answer_message_id=stored.message_id,
            generation_id=stored.generation_id,
            revision=chat.chat.revision,
        )

    async def Attach(
        self, request: pb.AttachRequest, context: Context
    ) -> AsyncIterator[pb.AttachResponse]:
        answer = self.answers.get(request.generation_id)
        if answer is None:
            await abort(context, UnknownGeneration(f"No answer {request.generation_id}."))
        if request.from_offset > len(answer.message.content):
            await abort(context, OffsetNotReached("The answer is shorter than that."))
        head = pb.AnswerHead(
            chat_id=answer.chat_id,
            model="llama-3.1-8b-instruct:Q4_K_M",
            text_length=len(answer.message.content),
            explanation=answer.message.explanation,
        )
        yield pb.AttachResponse(events=[pb.AnswerEvent(head=head)])
        async for event in answer.follow(request.from_offset):
            yield pb.AttachResponse(events=[event])

    def Ask(self, request: pb.AskRequest, context: Context) -> AsyncIterator[pb.AskResponse]:
        raise NotImplementedError("The terminal submits, and attaches by itself.")

    async def Stop(self, request: pb.StopRequest, context: Context) -> pb.StopResponse:
        self.stopped.append(request.generation_id)
        await self.answers[request.generation_id].end(
            types_pb2.End(reason=types_pb2.END_REASON_STOPPED)
        )
        return pb.StopResponse()

    async def WatchPool(
        self, request: pb.WatchPoolRequest, context: Context
    ) -> AsyncIterator[pb.WatchPoolResponse]:
        while True:
            changed = self._pool_changed
            yield self.pool
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self.frozen else HEARTBEAT_SECONDS):
                    await changed.wait()

    async def ListChats(
        self, request: pb.ListChatsRequest, context: Context
    ) -> pb.ListChatsResponse:
        active = {
            answer.chat_id for answer in self.answers.values() if not answer.message.HasField("end")
        }
        for chat_id, chat in self.chats.items():
            chat.chat.active = chat_id in active
        shelf = self.deleted if request.shelf == pb.SHELF_DELETED else self.chats
        newest = sorted(shelf.values(), key=lambda c: -c.chat.updated_unix_seconds)
        return pb.ListChatsResponse(chats=[chat.chat for chat in newest])

    async def GetChat(self, request: pb.GetChatRequest, context: Context) -> pb.GetChatResponse:
        if request.chat_id not in self.chats:
            await abort(context, UnknownChat(f"No chat {request.chat_id}."))
        chat = self.chats[request.chat_id]
        if request.known_revision == chat.chat.revision:
            return pb.GetChatResponse(chat=chat.chat, unchanged=True)
        return chat

    async def UpdateChat(
        self, request: pb.UpdateChatRequest, context: Context
    ) -> pb.UpdateChatResponse:
        chat = self.chats[request.chat_id].chat
        if request.HasField("title"):
            chat.title = request.title
        if request.HasField("model"):
            chat.model = request.model
        chat.revision += 1
        self._chats_changed()
        return pb.UpdateChatResponse(chat=chat)

    async def DeleteChat(
        self, request: pb.DeleteChatRequest, context: Context
    ) -> pb.DeleteChatResponse:
        self.deleted[request.chat_id] = self.chats.pop(request.chat_id)
        return pb.DeleteChatResponse()

    async def RestoreChat(
        self, request: pb.RestoreChatRequest, context: Context
    ) -> pb.RestoreChatResponse:
        self.chats[request.chat_id] = self.deleted.pop(request.chat_id)
        return pb.RestoreChatResponse()

    async def ListPrompts(
        self, request: pb.ListPromptsRequest, context: Context
    ) -> pb.ListPromptsResponse:
        return pb.ListPromptsResponse()

    async def ListPresets(
        self, request: pb.ListPresetsRequest, context: Context
    ) -> pb.ListPresetsResponse:
        return pb.ListPresetsResponse(presets=self.presets)

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        return pb.GetStatusResponse(protocol_version=self.protocol_version, version="0.1.0")

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=self.pool.models)

    async def ListNodes(
        self, request: pb.ListNodesRequest, context: Context
    ) -> pb.ListNodesResponse:
        return pb.ListNodesResponse(nodes=self.pool.nodes)

    async def Regenerate(
        self, request: pb.RegenerateRequest, context: Context
    ) -> pb.RegenerateResponse:
        return await not_played(context)

    async def Continue(self, request: pb.ContinueRequest, context: Context) -> pb.ContinueResponse:
        return await not_played(context)

    async def SelectBranch(
        self, request: pb.SelectBranchRequest, context: Context
    ) -> pb.SelectBranchResponse:
        return await not_played(context)

    async def SavePreset(
        self, request: pb.SavePresetRequest, context: Context
    ) -> pb.SavePresetResponse:
        return await not_played(context)

    async def DeletePreset(
        self, request: pb.DeletePresetRequest, context: Context
    ) -> pb.DeletePresetResponse:
        return await not_played(context)

    async def SearchChats(
        self, request: pb.SearchChatsRequest, context: Context
    ) -> pb.SearchChatsResponse:
        return pb.SearchChatsResponse(hits=self.hits)

    async def AddNode(self, request: pb.AddNodeRequest, context: Context) -> pb.AddNodeResponse:
        return await not_played(context)

    async def RemoveNode(
        self, request: pb.RemoveNodeRequest, context: Context
    ) -> pb.RemoveNodeResponse:
        self.orders.append(request)
        return pb.RemoveNodeResponse()

    async def CreateInvite(
        self, request: pb.CreateInviteRequest, context: Context
    ) -> pb.CreateInviteResponse:
        line = f"potluck1/{request.role}/192.168.1.20:7422/{'pool' * 6}pl/{'secret' * 4}se"
        return pb.CreateInviteResponse(line=line, valid_seconds=600)

    async def RenewCertificate(
        self, request: pb.RenewCertificateRequest, context: Context
    ) -> pb.RenewCertificateResponse:
        return await not_played(context)

    async def DrainNode(
        self, request: pb.DrainNodeRequest, context: Context
    ) -> pb.DrainNodeResponse:
        self.orders.append(request)
        return pb.DrainNodeResponse()

    async def LoadModel(
        self, request: pb.LoadModelRequest, context: Context
    ) -> pb.LoadModelResponse:
        self.orders.append(request)
        return pb.LoadModelResponse()

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: Context
    ) -> pb.UnloadModelResponse:
        self.orders.append(request)
        return pb.UnloadModelResponse()

    async def PinModel(self, request: pb.PinModelRequest, context: Context) -> pb.PinModelResponse:
        self.orders.append(request)
        return pb.PinModelResponse()

    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        return pb.ListDecisionsResponse(decisions=self.decisions)

    async def FitModel(self, request: pb.FitModelRequest, context: Context) -> pb.FitModelResponse:
        return pb.FitModelResponse(nodes=self.fits.get(request.model, []))

    async def ReadLogs(
        self, request: pb.ReadLogsRequest, context: Context
    ) -> AsyncIterator[pb.ReadLogsResponse]:
        if request.model not in self.logs:
            await abort(context, BadRequest(f"{request.model} has no log on this node."))
        self.log_readers += 1
        log = self.logs[request.model]
        shown = len(log)
        try:
            yield pb.ReadLogsResponse(
                lines=log[-request.lines :],
                node_name="studio",
                models=sorted(model for model in self.logs if model),
            )
            while request.follow:
                grew = self._log_grew
                if shown < len(log):
                    yield pb.ReadLogsResponse(lines=log[shown:])
                    shown = len(log)
                await grew.wait()
        finally:
            self.log_readers -= 1

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        if request.model not in self.details:
            await abort(context, UnknownModel(f"No machine has {request.model}."))
        return pb.DescribeModelResponse(detail=self.details[request.model], node_name="studio")

    async def RemoveModel(
        self, request: pb.RemoveModelRequest, context: Context
    ) -> pb.RemoveModelResponse:
        return await not_played(context)

    async def ChooseTemplate(
        self, request: pb.ChooseTemplateRequest, context: Context
    ) -> pb.ChooseTemplateResponse:
        return await not_played(context)

    async def PruneNodes(
        self, request: pb.PruneNodesRequest, context: Context
    ) -> pb.PruneNodesResponse:
        return await not_played(context)

    async def Recommend(
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        return self.recommended

    async def SearchModels(
        self, request: pb.SearchModelsRequest, context: Context
    ) -> pb.SearchModelsResponse:
        await self._need_the_hub(context)
        found = [repo.repository for repo in self.repositories.values()]
        named = [repo for repo in found if request.query.lower() in repo.name.lower()]
        return pb.SearchModelsResponse(repositories=named)

    async def ListRepository(
        self, request: pb.ListRepositoryRequest, context: Context
    ) -> pb.ListRepositoryResponse:
        await self._need_the_hub(context)
        if request.repository not in self.repositories:
            await abort(context, HubError(f"The hub has no {request.repository}."))
        return self.repositories[request.repository]

    async def PullModel(
        self, request: pb.PullModelRequest, context: Context
    ) -> AsyncIterator[pb.PullModelResponse]:
        self.orders.append(request)
        yield pb.PullModelResponse(node_name=request.node or "studio")
        await self.fetched.wait()
        if self.fetch_problem is not None:
            await abort(context, self.fetch_problem)
        yield pb.PullModelResponse(model=types_pb2.ModelDescription(name="fetched"))

    async def CopyModel(
        self, request: pb.CopyModelRequest, context: Context
    ) -> AsyncIterator[pb.CopyModelResponse]:
        yield await not_played(context)

    async def RefreshCatalogue(
        self, request: pb.RefreshCatalogueRequest, context: Context
    ) -> pb.RefreshCatalogueResponse:
        return await not_played(context)

    async def BenchModel(
        self, request: pb.BenchModelRequest, context: Context
    ) -> AsyncIterator[pb.BenchModelResponse]:
        yield await not_played(context)

    async def StopPullModel(
        self, request: pb.StopPullModelRequest, context: Context
    ) -> pb.StopPullModelResponse:
        self.orders.append(request)
        self.fetch_problem = HubError("The fetch was stopped.")
        self.fetched.set()
        return pb.StopPullModelResponse()

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        return await not_played(context)

    async def _need_the_hub(self, context: Context) -> None:
        if not self.repositories:
            await abort(context, HubError("The hub at hub.test cannot be reached."))


async def not_played(context: Context) -> Never:
    """Refuse a call; tests that make it run a real scheduler (see `real_stage`)."""
    await abort(context, BadRequest("The fake scheduler does not play this."))
