"""Prompts and their answers on disk."""

from __future__ import annotations

import array
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from potluck_proto.errors import BadRequest, UnknownChat
from potluck_proto.ids import ChatId, GenerationId, MessageId, new_id
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.chat_store import message_of
from potluck_scheduler.database import Database

TITLE_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Submission:
    """A prompt as it was stored."""

    chat_id: ChatId
    user_message_id: MessageId
    answer_message_id: MessageId
    generation_id: GenerationId
    model: str
    conversation: tuple[types.Message, ...]
    """All that the model is to see, the new prompt last."""
    repeated: bool = False
    """The same request was stored before; nothing new was."""


@dataclass(frozen=True, slots=True)
class Record:
    """An answer as it is saved."""

    generation_id: GenerationId
    model: str
    node_name: str
    text: str
    token_ids: Sequence[int] = ()
    lineage: str = ""
    """Of whose vocabulary the tokens are; empty where they are not the whole answer."""
    seams: tuple[pb.Seam, ...] = ()
    explanation: types.Explanation | None = None
    end: types.End | None = None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it stands on disk."""

    chat_id: ChatId
    message: pb.StoredMessage


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An answer that an earlier scheduler left under way."""

    submission: Submission
    request: pb.SubmitRequest
    record: Record


class AnswerStore:
    """Prompts and answers. Every method raises `StoreError` where the disk fails.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(self, request: pb.SubmitRequest) -> Submission:
        """Store a prompt and an empty answer, in a new chat where none is named.

        A request id that was seen before stores nothing and returns what it stored then.

        Raises:
            UnknownChat: There is no chat of that id.
            BadRequest: The parent message is in another chat.
        """
        return await self._database.transaction(lambda: self._submit(request))

    def _submit(self, request: pb.SubmitRequest) -> Submission:
        if request.request_id and (known := self._repeated(request.request_id)):
            return known
        now = time.time()
        chat_id, system, parent, model = self._chat(request, now)
        user_id, answer_id = MessageId(new_id()), MessageId(new_id())
        generation_id = GenerationId(new_id())
        conversation = self._conversation(chat_id, system, parent)
        conversation.append(types.Message(role=types.ROLE_USER, content=request.content))
        self._database.execute(
            "INSERT INTO messages (message_id, chat_id, parent_message_id, role, content, created,"
            " request_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (user_id, chat_id, parent, types.ROLE_USER, request.content, now,
             request.request_id or None),
        )  # fmt: skip
        self._database.execute(
            "INSERT INTO messages (message_id, chat_id, parent_message_id, role, content, created,"
            " generation_id, model, request) VALUES (?, ?, ?, ?, '', ?, ?, ?, ?)",
            (answer_id, chat_id, user_id, types.ROLE_ASSISTANT, now, generation_id, model,
             _kept(request, model)),
        )  # fmt: skip
        return Submission(chat_id, user_id, answer_id, generation_id, model, tuple(conversation))

    def _repeated(self, request_id: str) -> Submission | None:
        row = self._database.row(
            "SELECT u.chat_id, u.message_id AS user_id, a.message_id AS answer_id, a.generation_id,"
            " a.model FROM messages u JOIN messages a ON a.parent_message_id = u.message_id"
            " WHERE u.request_id = ?",
            (request_id,),
        )
        if row is None:
            return None
        return Submission(
            row["chat_id"], row["user_id"], row["answer_id"], row["generation_id"], row["model"],
            (), repeated=True,
        )  # fmt: skip

    def _chat(self, request: pb.SubmitRequest, now: float) -> tuple[ChatId, str, str, str]:
        """Return the chat of a prompt, a new one where none is named.

        With its system prompt, the message that the prompt follows, and the model.
        """
        if not request.chat_id:
            return self._create_chat(request, now), request.system_prompt, "", request.model
        chat_id = ChatId(request.chat_id)
        row = self._database.row(
            "SELECT model, system_prompt FROM chats WHERE chat_id = ?", (chat_id,)
        )
        if row is None:
            raise UnknownChat(f"There is no chat {chat_id!r}; it may have been deleted.")
        model = request.model or row["model"]
        self._database.execute(
            "UPDATE chats SET updated = ?, model = ? WHERE chat_id = ?", (now, model, chat_id)
        )
        parent = request.parent_message_id or self._last_message_id(chat_id)
        return chat_id, row["system_prompt"], parent, model

    def _create_chat(self, request: pb.SubmitRequest, now: float) -> ChatId:
        if request.parent_message_id:
            raise BadRequest(
                f"The message {request.parent_message_id} that this one follows is in no new chat."
            )
        chat_id = ChatId(new_id())
        first_line = request.content.strip().splitlines()[0]
        title = first_line[:TITLE_CHARACTERS]
        self._database.execute(
            "INSERT INTO chats (chat_id, title, model, system_prompt, created, updated)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (chat_id, title, request.model, request.system_prompt, now, now),
        )
        return chat_id

    def _last_message_id(self, chat_id: ChatId) -> str:
        row = self._database.row(
            "SELECT message_id FROM messages WHERE chat_id = ? ORDER BY number DESC LIMIT 1",
            (chat_id,),
        )
        return row["message_id"] if row else ""

    def _conversation(self, chat_id: ChatId, system: str, parent: str) -> list[types.Message]:
        """Return what the model is to see before a new prompt that follows `parent`.

        An answer without a word, such as one that failed at once, is left out together with its
        question: most templates want question and answer in turn.
        """
        rows = (
            []
            if not parent
            else self._database.rows(
                "WITH RECURSIVE path (message_id, parent_message_id, role, content, number) AS ("
                " SELECT message_id, parent_message_id, role, content, number FROM messages"
                " WHERE message_id = ? AND chat_id = ?"
                " UNION ALL SELECT m.message_id, m.parent_message_id, m.role, m.content, m.number"
                " FROM messages m JOIN path ON m.message_id = path.parent_message_id)"
                " SELECT role, content FROM path ORDER BY number",
                (parent, chat_id),
            )
        )
        if parent and not rows:
            raise BadRequest(f"The message {parent} that this one follows is not in this chat.")
        if len(rows) % 2:
            raise BadRequest(f"The message {parent} is a question; a new one follows an answer.")
        messages = [types.Message(role=types.ROLE_SYSTEM, content=system)] if system else []
        for question, answer in zip(rows[::2], rows[1::2], strict=True):
            if answer["content"]:
                messages += [
                    types.Message(role=row["role"], content=row["content"])
                    for row in (question, answer)
                ]
        return messages

    async def save(self, records: Iterable[Record]) -> None:
        """Store what answers have so far, and the ends of those that ended."""
        rows = [_row(record) for record in records]

        def work() -> None:
            for row in rows:
                self._database.execute(
                    "UPDATE messages SET model = ?, node_name = ?, content = ?, token_ids = ?,"
                    " lineage = ?, seams = ?, explanation = ? WHERE generation_id = ?",
                    row[:-1],
                )
                if row[-1] is not None:
                    self._database.execute(
                        'UPDATE messages SET "end" = ? WHERE generation_id = ?', (row[-1], row[-2])
                    )

        await self._database.transaction(work)

    async def unfinished(self) -> list[Unfinished]:
        """Return the answers that an earlier scheduler left under way, the oldest first."""

        def work() -> list[Unfinished]:
            rows = self._database.rows(
                "SELECT a.*, u.content AS question, u.parent_message_id AS before, c.system_prompt"
                " FROM messages a JOIN messages u ON u.message_id = a.parent_message_id"
                " JOIN chats c ON c.chat_id = a.chat_id"
                ' WHERE a.generation_id IS NOT NULL AND a."end" IS NULL ORDER BY a.number'
            )
            return [self._unfinished(row) for row in rows]

        return await self._database.run(work)

    def _unfinished(self, row: sqlite3.Row) -> Unfinished:
        message, request = message_of(row), pb.SubmitRequest.FromString(row["request"] or b"")
        chat_id, generation_id = ChatId(row["chat_id"]), GenerationId(message.generation_id)
        conversation = self._conversation(chat_id, row["system_prompt"], row["before"])
        conversation.append(types.Message(role=types.ROLE_USER, content=row["question"]))
        token_ids = array.array("I")
        token_ids.frombytes(row["token_ids"])
        return Unfinished(
            Submission(
                chat_id,
                MessageId(message.parent_message_id),
                MessageId(message.message_id),
                generation_id,
                request.model,
                tuple(conversation),
            ),
            request,
            Record(
                generation_id,
                message.model,
                message.node_name,
                message.content,
                token_ids,
                row["lineage"],
                tuple(message.seams),
                message.explanation if message.HasField("explanation") else None,
            ),
        )

    async def answer(self, generation_id: GenerationId) -> StoredAnswer | None:
        """Return an answer."""

        def work() -> StoredAnswer | None:
            row = self._database.row(
                "SELECT * FROM messages WHERE generation_id = ?", (generation_id,)
            )
            return None if row is None else StoredAnswer(row["chat_id"], message_of(row))

        return await self._database.run(work)


def _kept(request: pb.SubmitRequest, model: str) -> bytes:
    """Return how an answer was asked for; the question itself is a message of its own."""
    kept = pb.SubmitRequest()
    kept.CopyFrom(request)
    kept.ClearField("content")
    kept.model = model
    return kept.SerializeToString()


def _row(record: Record) -> tuple[object, ...]:
    explanation = record.explanation.SerializeToString() if record.explanation else None
    return (
        record.model,
        record.node_name,
        record.text,
        array.array("I", record.token_ids).tobytes(),
        record.lineage,
        pb.Seams(seams=record.seams).SerializeToString(),
        explanation,
        record.generation_id,
        record.end.SerializeToString() if record.end else None,
    )
