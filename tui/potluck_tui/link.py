"""Carries out the session's instructions at the scheduler, and posts what comes of them.

Every instruction runs in a task of its own, so nothing here makes the screen wait. Tasks post
events and touch nothing else. At most one answer is followed at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import assert_never

from potluck_proto.errors import (
    OffsetNotReached,
    PotluckError,
    RequestError,
    UnknownChat,
    UnknownNode,
)
from potluck_proto.ids import ChatId, GenerationId, MessageId, new_id
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.events import (
    AnswerEnded,
    AnswerMoved,
    AnswerPlaced,
    AnswerProgress,
    AnswerText,
    ChatDeleted,
    ChatGone,
    ChatSeen,
    ChatsSeen,
    ConnectionLost,
    DeleteChat,
    Event,
    FetchChat,
    Follow,
    FollowFailed,
    FollowLog,
    ListChats,
    LogFailed,
    LogGrew,
    LogOpened,
    PoolInstruction,
    PoolSeen,
    RequestFailed,
    StopAnswer,
    Submit,
    SubmitFailed,
    Submitted,
    Unfollow,
    UnfollowLog,
    UpdateChat,
)
from potluck_tui.log_view import LogKey
from potluck_tui.pool import PoolView
from potluck_tui.views import ChatSummary, Ending, Move, Turn, progress_words, reason_words

CHATS_LISTED = 200
"""How many chats the list shows, newest first."""

LOG_LINES = 500
"""How many lines of a log are there to scroll back over when it is opened."""

LOG_RETRY_SECONDS = 1.0


class PoolLink:
    """The background half of the screen.

    Args:
        client: The connection.
        post: Takes an event; must not block.
        now_unix_seconds: The clock on the wall.
    """

    def __init__(
        self,
        client: PoolClient,
        post: Callable[[Event], object],
        now_unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._post = post
        self._now = now_unix_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None
        self._following_log: asyncio.Task[None] | None = None
        self._request_ids: dict[tuple[ChatId, str], str] = {}

    def start(self) -> None:
        """Start to watch the pool."""
        self._spawn(self._watch())

    async def close(self) -> None:
        """End all tasks and the connection. Answers go on without this viewer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def carry_out(self, instruction: PoolInstruction) -> None:
        """Start what the session asked for."""
        match instruction:
            case ListChats():
                self._spawn(self._list_chats())
            case FetchChat(chat_id):
                self._spawn(self._fetch_chat(chat_id))
            case Submit():
                self._spawn(self._submit(instruction))
            case Follow(generation_id, from_offset):
                self._unfollow()
                self._following = self._spawn(self._follow(generation_id, from_offset))
            case Unfollow():
                self._unfollow()
            case StopAnswer(generation_id):
                self._spawn(self._stop(generation_id))
            case UpdateChat():
                self._spawn(self._update_chat(instruction))
            case DeleteChat(chat_id):
                self._spawn(self._delete_chat(chat_id))
            case FollowLog(key):
                self._unfollow_log()
                self._following_log = self._spawn(self._follow_log(key))
            case UnfollowLog():
                self._unfollow_log()
            case _:
                assert_never(instruction)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _unfollow(self) -> None:
        if self._following is not None:
            self._following.cancel()
            self._following = None

    def _unfollow_log(self) -> None:
        if self._following_log is not None:
            self._following_log.cancel()
            self._following_log = None

    async def _watch(self) -> None:
        try:
            async for pool in self._client.watch_pool():
                self._post(
                    ConnectionLost() if pool is None else PoolSeen(PoolView.from_proto(pool))
                )
        except PotluckError as error:
            self._post(ConnectionLost())
            self._post(RequestFailed(clean(error.message)))

    async def _list_chats(self) -> None:
        try:
            response = await self._client.call(
                self._client.stub.ListChats, pb.ListChatsRequest(limit=CHATS_LISTED)
            )
        except PotluckError:
            # The status line shows that the scheduler is away; the list is read again when it is
            # back, and it is old until then.
            return
        chats = tuple(ChatSummary.from_proto(chat) for chat in response.chats)
        self._post(ChatsSeen(chats, self._now()))

    async def _fetch_chat(self, chat_id: ChatId) -> None:
        try:
            response = await self._client.call(
                self._client.stub.GetChat, pb.GetChatRequest(chat_id=chat_id)
            )
        except PotluckError as error:
            gone = isinstance(error, UnknownChat)
            self._post(ChatGone(chat_id, clean(error.message), deleted=gone))
            return
        turns = tuple(Turn.from_proto(message) for message in response.messages)
        self._post(ChatSeen(ChatSummary.from_proto(response.chat), turns))

    async def _submit(self, submit: Submit) -> None:
        # A prompt that is sent again after a failure has the same id, so that it is stored once
        # also where the scheduler took it and only its response was lost.
        key = (submit.chat_id, submit.text)
        request_id = self._request_ids.setdefault(key, new_id())
        try:
            response = await self._client.call(
                self._client.stub.Submit,
                pb.SubmitRequest(
                    chat_id=submit.chat_id,
                    request_id=request_id,
                    content=submit.text,
                    model=submit.model,
                ),
            )
        except PotluckError as error:
            self._post(
                SubmitFailed(submit.visit, submit.chat_id, submit.text, clean(error.message))
            )
            return
        del self._request_ids[key]
        self._post(
            Submitted(
                visit=submit.visit,
                text=submit.text,
                chat_id=ChatId(response.chat_id),
                user_message_id=MessageId(response.user_message_id),
                answer_message_id=MessageId(response.answer_message_id),
                generation_id=GenerationId(response.generation_id),
            )
        )

    async def _follow(self, generation_id: GenerationId, from_offset: int) -> None:
        try:
            async for response in self._client.attach(generation_id, from_offset):
                # A lost connection shows in the status line, by way of `_watch`.
                if response is not None and (event := _answer_event(generation_id, response)):
                    self._post(event)
        except PotluckError as error:
            self._post(
                FollowFailed(
                    generation_id,
                    clean(error.message),
                    reload=isinstance(error, OffsetNotReached),
                )
            )

    async def _stop(self, generation_id: GenerationId) -> None:
        try:
            await self._client.call(
                self._client.stub.Stop, pb.StopRequest(generation_id=generation_id)
            )
        except PotluckError as error:
            self._post(RequestFailed(f"The answer was not stopped. {clean(error.message)}"))

    async def _update_chat(self, update: UpdateChat) -> None:
        request = pb.UpdateChatRequest(chat_id=update.chat_id)
        if update.title is not None:
            request.title = update.title
        if update.model is not None:
            request.model = update.model
        try:
            await self._client.call(self._client.stub.UpdateChat, request)
        except PotluckError as error:
            self._post(RequestFailed(f"The chat was not changed. {clean(error.message)}"))
        await self._list_chats()

    async def _delete_chat(self, chat_id: ChatId) -> None:
        try:
            await self._client.call(
                self._client.stub.DeleteChat, pb.DeleteChatRequest(chat_id=chat_id)
            )
        except PotluckError as error:
            self._post(RequestFailed(f"The chat was not deleted. {clean(error.message)}"))
        else:
            self._post(ChatDeleted(chat_id))

    async def _follow_log(self, key: LogKey) -> None:
        """Follow a log; where the way to it breaks, begin again until it is there."""
        request = pb.ReadLogsRequest(
            node=key.address, model=key.model, lines=LOG_LINES, follow=True
        )
        while True:
            opened = False
            try:
                async for response in self._client.read_logs(request):
                    lines = tuple(clean(line) for line in response.lines)
                    if opened:
                        self._post(LogGrew(key, lines))
                    else:
                        models = tuple(clean(model) for model in response.models)
                        self._post(LogOpened(key, models, lines))
                    opened = True
            except PotluckError as error:
                self._post(LogFailed(key, clean(error.message)))
                if isinstance(error, RequestError) and not isinstance(error, UnknownNode):
                    return
            await asyncio.sleep(LOG_RETRY_SECONDS)


def _answer_event(  # noqa: PLR0911 - a table
    generation_id: GenerationId, response: pb.AttachResponse
) -> Event | None:
    """Take one message of an answer's stream apart; `None` for a kind of a newer protocol."""
    match response.WhichOneof("event"):
        case "head":
            head = response.head
            moves = tuple(Move.from_proto(seam) for seam in head.seams)
            return AnswerPlaced(
                generation_id, reason_words(head.explanation), clean(head.model), moves
            )
        case "progress":
            return AnswerProgress(generation_id, progress_words(response.progress))
        case "placed":
            return AnswerPlaced(generation_id, reason_words(response.placed))
        case "delta":
            return AnswerText(generation_id, response.delta.text)
        case "seam":
            return AnswerMoved(generation_id, Move.from_proto(response.seam))
        case "end":
            return AnswerEnded(generation_id, Ending.from_proto(response.end))
        case _:
            return None
