"""Chats on disk without a scheduler, for tests of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.answer_store import AnswerStore, Record
from potluck_scheduler.database import Database
from potluck_scheduler.shelf import ChatShelf
from potluck_scheduler.store import ChatStore
from potluck_scheduler.submission import Submission

ENDED = types.End(reason=types.END_REASON_END_OF_TURN)
STOPPED = types.End(reason=types.END_REASON_STOPPED)


@dataclass
class Chats:
    """A database, and all ways to use it."""

    database: Database
    store: ChatStore = field(init=False)
    answers: AnswerStore = field(init=False)
    shelf: ChatShelf = field(init=False)

    def __post_init__(self) -> None:
        self.store = ChatStore(self.database)
        self.answers = AnswerStore(self.database)
        self.shelf = ChatShelf(self.database)

    async def ask(
        self, content: str, answer: str = "yes", end: types.End = ENDED, **request: object
    ) -> Submission:
        """Store a question with its answer."""
        asked = pb.SubmitRequest(content=content, **request)  # type: ignore[arg-type]
        submission = await self.store.submit(asked)
        await self.save(submission, answer, end=end)
        return submission

    async def save(
        self, submission: Submission, text: str, token_ids: Sequence[int] = (), **facts: Any
    ) -> None:
        """Store what an answer has."""
        facts = {"model": submission.model, "node_name": ""} | facts
        record = Record(submission.generation_id, text=text, token_ids=token_ids, **facts)
        await self.answers.save([record])

    async def shown(self, chat_id: str) -> list[str]:
        """Return what the messages of the branch that is shown say."""
        response = await self.shelf.chat(pb.GetChatRequest(chat_id=chat_id))
        return [message.content for message in response.messages if message.shown]

    async def titles(self, **request: object) -> list[str]:
        """Return the titles of a list of chats."""
        asked = pb.ListChatsRequest(**request)  # type: ignore[arg-type]
        return [chat.title for chat in (await self.shelf.chats(asked))[0]]

    async def found(self, query: str) -> list[str]:
        """Return what a search finds, the words that match in brackets; titles as they are."""
        return [
            "".join(f"[{part.text}]" if part.match else part.text for part in hit.snippet)
            or hit.chat_title
            for hit in await self.shelf.search(query, 0)
        ]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Chats]:
    """Open a database file."""
    chats = Chats(Database(path))
    await chats.database.open()
    yield chats
    await chats.database.close()
