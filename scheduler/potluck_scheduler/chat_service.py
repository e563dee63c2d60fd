"""The scheduler's gRPC service, as far as chats go: a thin edge over the store and the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from potluck_proto.errors import BadRequest, LimitReached
from potluck_proto.identity import Role
from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_proto.limits import Limits
from potluck_proto.rules import Context, caller
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_scheduler.database import Database
from potluck_scheduler.generations import Generations
from potluck_scheduler.shelf import ChatShelf
from potluck_scheduler.store import ChatStore
from potluck_scheduler.submission import Submission

HEAD_SECONDS = 0.02
"""What is known of an answer that has just begun waits so long for its first words, so that they go
out together."""


class ChatService(pb_grpc.SchedulerServiceServicer):
    """Questions, answers, and the chats that they make.

    Args:
        database: Where chats and answers are.
        generations: The answers under way.
        limits: What a caller may ask for.
        chats_changed: Called when a viewer should look at the chats again.

    Attributes:
        viewers: Open streams of viewers.
    """

    def __init__(
        self,
        database: Database,
        generations: Generations,
        limits: Limits,
        chats_changed: Callable[[], None],
    ) -> None:
        self._store = ChatStore(database)
        self._shelf = ChatShelf(database)
        self._generations = generations
        self._limits = limits
        self._chats_changed = chats_changed
        self.viewers = 0

    # --- answers -------------------------------------------------------------------------------

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        """Store a prompt, then begin its answer."""
        return _submitted(await self._submit(request))

    async def _submit(self, request: pb.SubmitRequest) -> Submission:
        if not request.content.strip() and not request.attachments:
            raise BadRequest("The prompt is empty.")
        texts = (request.content, *(file.content for file in request.attachments))
        size_bytes = sum(len(text.encode()) for text in texts)
        if size_bytes > self._limits.prompt_bytes:
            raise LimitReached(
                f"The prompt has {size_bytes:,} bytes; the limit is {self._limits.prompt_bytes:,} "
                "(limits.prompt_bytes)."
            )
        self._check_settings(len(request.system_prompt.encode()) + request.preset.ByteSize())
        await self._check_room(ChatId(request.chat_id), size_bytes)
        if (peer := caller.get()).role is Role.CLIENT:
            # Who asks is what its certificate says: those who wait are served in turn.
            request.client = peer.membership
        submission = await self._store.submit(request, self._generations.ids())
        if not submission.repeated:
            self._generations.start(submission)
            if submission.beside is not None:
                self._generations.start(submission.beside)
        return submission

    def _check_settings(self, size_bytes: int) -> None:
        """Raise `LimitReached` for settings of a chat that are too long."""
        limit = self._limits.chat_settings_bytes
        if size_bytes > limit:
            raise LimitReached(
                f"Title, system prompt and options have {size_bytes:,} bytes; the limit is "
                f"{limit:,} (limits.chat_settings_bytes)."
            )

    async def _check_room(self, chat_id: ChatId, more_bytes: int = 0) -> None:
        """Raise `LimitReached` where a chat has no room for another answer."""
        limit = self._limits.chat_bytes
        size_bytes = more_bytes + (await self._store.chat_bytes(chat_id) if chat_id else 0)
        if size_bytes > limit:
            raise LimitReached(
                f"The chat would have {size_bytes:,} bytes; the limit is {limit:,} "
                "(limits.chat_bytes). Start a new one."
            )

    async def Regenerate(
        self, request: pb.RegenerateRequest, context: Context
    ) -> pb.RegenerateResponse:
        """Begin another answer to a question."""
        await self._check_room(ChatId(request.chat_id))
        submission = await self._store.regenerate(request)
        self._generations.start(submission)
        return pb.RegenerateResponse(
            answer_message_id=submission.answer_message_id, generation_id=submission.generation_id
        )

    async def Continue(self, request: pb.ContinueRequest, context: Context) -> pb.ContinueResponse:
        """Go on with a cut answer."""
        chat_id, message_id = ChatId(request.chat_id), MessageId(request.answer_message_id)
        await self._check_room(chat_id)
        submission = await self._store.reopen(chat_id, message_id)
        self._generations.start(submission)
        return pb.ContinueResponse(generation_id=submission.generation_id)

    async def SelectBranch(
        self, request: pb.SelectBranchRequest, context: Context
    ) -> pb.SelectBranchResponse:
        """Show another branch."""
        chat_id, message_id = ChatId(request.chat_id), MessageId(request.message_id)
        await self._store.select(chat_id, message_id)
        self._chats_changed()
        return pb.SelectBranchResponse()

    async def Attach(
        self, request: pb.AttachRequest, context: Context
    ) -> AsyncIterator[pb.AttachResponse]:
        """Show an answer from an offset on."""
        with self._viewer():
            generation_id = GenerationId(request.generation_id)
            async for events in self._generations.attach(generation_id, request.from_offset):
                yield pb.AttachResponse(events=events)

    async def Ask(self, request: pb.AskRequest, context: Context) -> AsyncIterator[pb.AskResponse]:
        """Store a prompt, begin its answer, and show it."""
        with self._viewer():
            submission = await self._submit(request.submit)
            submitted: pb.SubmitResponse | None = _submitted(submission)
            answer = self._generations.attach(submission.generation_id, 0, HEAD_SECONDS)
            async for events in answer:
                yield pb.AskResponse(submitted=submitted, events=events)
                submitted = None

    async def Stop(self, request: pb.StopRequest, context: Context) -> pb.StopResponse:
        """End an answer."""
        await self._generations.stop(GenerationId(request.generation_id))
        return pb.StopResponse()

    # --- chats ---------------------------------------------------------------------------------

    async def ListChats(
        self, request: pb.ListChatsRequest, context: Context
    ) -> pb.ListChatsResponse:
        """List chats, a page at a time."""
        chats, token = await self._shelf.chats(request)
        for chat in chats:
            chat.active = bool(self._generations.in_chat(ChatId(chat.chat_id)))
        return pb.ListChatsResponse(chats=chats, next_page_token=token)

    async def GetChat(self, request: pb.GetChatRequest, context: Context) -> pb.GetChatResponse:
        """Return a chat; answers under way with all that they have."""
        response = await self._shelf.chat(request)
        active = {
            answer.generation_id: answer
            for answer in self._generations.in_chat(ChatId(request.chat_id))
        }
        response.chat.active = bool(active)
        for message in response.messages:
            if answer := active.get(GenerationId(message.generation_id)):
                message.content = answer.text
                del message.seams[:]
                message.seams.extend(answer.seams)
        return response

    async def UpdateChat(
        self, request: pb.UpdateChatRequest, context: Context
    ) -> pb.UpdateChatResponse:
        """Change a chat."""
        self._check_settings(request.ByteSize())
        chat = await self._shelf.update(request)
        self._chats_changed()
        return pb.UpdateChatResponse(chat=chat)

    async def DeleteChat(
        self, request: pb.DeleteChatRequest, context: Context
    ) -> pb.DeleteChatResponse:
        """Put a chat away; answers under way in it end."""
        chat_id = ChatId(request.chat_id)
        for answer in self._generations.in_chat(chat_id):
            await self._generations.stop(answer.generation_id)
        await self._shelf.delete(chat_id)
        self._chats_changed()
        return pb.DeleteChatResponse()

    async def RestoreChat(
        self, request: pb.RestoreChatRequest, context: Context
    ) -> pb.RestoreChatResponse:
        """Take a deleted chat back."""
        await self._shelf.restore(ChatId(request.chat_id))
        self._chats_changed()
        return pb.RestoreChatResponse()

    async def SearchChats(
        self, request: pb.SearchChatsRequest, context: Context
    ) -> pb.SearchChatsResponse:
        """Search all chats."""
        hits = await self._shelf.search(request.query, request.limit)
        return pb.SearchChatsResponse(hits=hits)

    async def ListPrompts(
        self, request: pb.ListPromptsRequest, context: Context
    ) -> pb.ListPromptsResponse:
        """List what was asked lately."""
        prompts = await self._shelf.prompts(request.limit)
        return pb.ListPromptsResponse(prompts=prompts)

    # --- presets -------------------------------------------------------------------------------

    async def ListPresets(
        self, request: pb.ListPresetsRequest, context: Context
    ) -> pb.ListPresetsResponse:
        """List the presets that have a name."""
        presets = await self._shelf.presets()
        return pb.ListPresetsResponse(presets=presets)

    async def SavePreset(
        self, request: pb.SavePresetRequest, context: Context
    ) -> pb.SavePresetResponse:
        """Keep a preset under its name."""
        self._check_settings(request.ByteSize())
        await self._shelf.save_preset(request.preset)
        return pb.SavePresetResponse()

    async def DeletePreset(
        self, request: pb.DeletePresetRequest, context: Context
    ) -> pb.DeletePresetResponse:
        """Forget a preset."""
        await self._shelf.delete_preset(request.name)
        return pb.DeletePresetResponse()

    @contextmanager
    def _viewer(self) -> Iterator[None]:
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1


def _submitted(submission: Submission) -> pb.SubmitResponse:
    return pb.SubmitResponse(
        chat_id=submission.chat_id,
        user_message_id=submission.user_message_id,
        answer_message_id=submission.answer_message_id,
        generation_id=submission.generation_id,
        revision=submission.revision,
    )
