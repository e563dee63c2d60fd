"""The chat store: SQLite, in one file, for chats and answers.

Consistency: a call that returned is on disk as far as the operating system is told (WAL,
synchronous=NORMAL: a killed process loses nothing, a power cut at most the last moments, and never
damages the file). Calls take effect in the order in which they were made, one at a time, on a
thread of their own, so the event loop never waits for the disk. A reader sees every earlier write.
"""

from __future__ import annotations

import array
import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from potluck_proto.errors import BadRequest, StoreError, UnknownChat
from potluck_proto.ids import ChatId, GenerationId, MessageId, new_id
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.migrations import migrate

Result = TypeVar("Result")

BUSY_SECONDS = 10.0
"""How long to wait for another process that holds the file."""

TITLE_CHARACTERS = 60
PAGE_CHATS = 100


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
class StoredAnswer:
    """An answer as it stands on disk."""

    chat_id: ChatId
    message: pb.StoredMessage


class ChatStore:
    """Chats on disk. Every method raises `StoreError` where the disk fails.

    Args:
        path: The database file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chat-store")

    async def open(self) -> None:
        """Open the database and bring it up to date."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the database after all calls under way."""
        await self._run(lambda: self._database.close())
        self._thread.shutdown()

    def _open(self) -> None:
        self._path.touch(mode=0o600)
        database = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        database.row_factory = sqlite3.Row
        self._database = database
        try:
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                database.execute(f"PRAGMA {pragma}")
            migrate(database)
        except BaseException:
            database.close()
            raise

    async def _run(self, work: Callable[[], Result]) -> Result:
        """Do work on the store's thread, and say in words how the disk failed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The chat store {self._path} cannot be used ({error}). Check the disk's space and "
                "the file's owner; if the file is damaged, move it away and a new one is made."
            ) from error

    async def _transaction(self, work: Callable[[], Result]) -> Result:
        """Do all of the work or nothing."""

        def run() -> Result:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                result = work()
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
            return result

        return await self._run(run)

    # --- answers -------------------------------------------------------------------------------

    async def chat_bytes(self, chat_id: ChatId) -> int:
        """Return how long a chat is, all its messages together; 0 for one that is not there."""

        def count() -> int:
            row = self._database.execute(
                "SELECT coalesce(sum(length(CAST(content AS BLOB))), 0) FROM messages"
                " WHERE chat_id = ?",
                (chat_id,),
            ).fetchone()
            return int(row[0])

        return await self._run(count)

    async def submit(self, request: pb.SubmitRequest) -> Submission:
        """Store a prompt and an empty answer, in a new chat where none is named.

        A request id that was seen before stores nothing and returns what it stored then.

        Raises:
            UnknownChat: There is no chat of that id.
            BadRequest: The parent message is in another chat.
        """
        return await self._transaction(lambda: self._submit(request))

    def _submit(self, request: pb.SubmitRequest) -> Submission:
        if request.request_id and (known := self._repeated(request.request_id)):
            return known
        now = time.time()
        chat_id = ChatId(request.chat_id) or self._create_chat(request, now)
        chat = self._chat_row(chat_id)
        parent = request.parent_message_id or self._last_message_id(chat_id)
        model = request.model or chat["model"]
        user_id, answer_id = MessageId(new_id()), MessageId(new_id())
        generation_id = GenerationId(new_id())
        conversation = self._conversation(chat_id, chat["system_prompt"], parent)
        conversation.append(types.Message(role=types.ROLE_USER, content=request.content))
        self._database.execute(
            "INSERT INTO messages (message_id, chat_id, parent_message_id, role, content, created,"
            " request_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (user_id, chat_id, parent, types.ROLE_USER, request.content, now,
             request.request_id or None),
        )  # fmt: skip
        self._database.execute(
            "INSERT INTO messages (message_id, chat_id, parent_message_id, role, content, created,"
            " generation_id, model) VALUES (?, ?, ?, ?, '', ?, ?, ?)",
            (answer_id, chat_id, user_id, types.ROLE_ASSISTANT, now, generation_id, model),
        )
        self._database.execute(
            "UPDATE chats SET updated = ?, model = ? WHERE chat_id = ?", (now, model, chat_id)
        )
        return Submission(chat_id, user_id, answer_id, generation_id, model, tuple(conversation))

    def _repeated(self, request_id: str) -> Submission | None:
        row = self._database.execute(
            "SELECT u.chat_id, u.message_id AS user_id, a.message_id AS answer_id, a.generation_id,"
            " a.model FROM messages u JOIN messages a ON a.parent_message_id = u.message_id"
            " WHERE u.request_id = ?",
            (request_id,),
        ).fetchone()
        if row is None:
            return None
        return Submission(
            row["chat_id"], row["user_id"], row["answer_id"], row["generation_id"], row["model"],
            (), repeated=True,
        )  # fmt: skip

    def _create_chat(self, request: pb.SubmitRequest, now: float) -> ChatId:
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
        row = self._database.execute(
            "SELECT message_id FROM messages WHERE chat_id = ? ORDER BY number DESC LIMIT 1",
            (chat_id,),
        ).fetchone()
        return row["message_id"] if row else ""

    def _conversation(self, chat_id: ChatId, system: str, parent: str) -> list[types.Message]:
        """Return what the model is to see before a new prompt that follows `parent`.

        An answer without a word, such as one that failed at once, is left out together with its
        question: most templates want question and answer in turn.
        """
        rows = self._database.execute(
            "WITH RECURSIVE path (message_id, parent_message_id, role, content, number) AS ("
            " SELECT message_id, parent_message_id, role, content, number FROM messages"
            " WHERE message_id = ? AND chat_id = ?"
            " UNION ALL SELECT m.message_id, m.parent_message_id, m.role, m.content, m.number"
            " FROM messages m JOIN path ON m.message_id = path.parent_message_id)"
            " SELECT role, content FROM path ORDER BY number",
            (parent, chat_id),
        ).fetchall()
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

    async def save_place(
        self, generation_id: GenerationId, node_name: str, explanation: types.Explanation
    ) -> None:
        """Store where an answer was placed, and why."""
        model = explanation.model
        if explanation.quantization:
            model += f":{explanation.quantization}"
        values = (node_name, explanation.SerializeToString(), model, generation_id)
        await self._execute(
            "UPDATE messages SET node_name = ?, explanation = ?, model = ? WHERE generation_id = ?",
            values,
        )

    async def save_text(
        self,
        generation_id: GenerationId,
        text: str,
        token_ids: Sequence[int],
        end: types.End | None = None,
    ) -> None:
        """Store what an answer has so far, and its end where it has come."""
        packed = array.array("I", token_ids).tobytes()
        if end is None:
            await self._execute(
                "UPDATE messages SET content = ?, token_ids = ? WHERE generation_id = ?",
                (text, packed, generation_id),
            )
        else:
            await self._execute(
                'UPDATE messages SET content = ?, token_ids = ?, "end" = ? WHERE generation_id = ?',
                (text, packed, end.SerializeToString(), generation_id),
            )

    async def end_interrupted(self, end: types.End) -> int:
        """End every answer that an earlier scheduler left under way; return how many."""

        def work() -> int:
            return self._database.execute(
                'UPDATE messages SET "end" = ? WHERE generation_id IS NOT NULL AND "end" IS NULL',
                (end.SerializeToString(),),
            ).rowcount

        return await self._transaction(work)

    async def answer(self, generation_id: GenerationId) -> StoredAnswer | None:
        """Return an answer."""

        def work() -> StoredAnswer | None:
            row = self._database.execute(
                "SELECT * FROM messages WHERE generation_id = ?", (generation_id,)
            ).fetchone()
            return None if row is None else StoredAnswer(row["chat_id"], _message(row))

        return await self._run(work)

    # --- chats ---------------------------------------------------------------------------------

    async def list_chats(
        self, limit: int, page_token: str, include_archived: bool
    ) -> tuple[list[pb.Chat], str]:
        """Return chats, pinned ones first, then the newest; and the token of the next page."""

        def work() -> tuple[list[pb.Chat], str]:
            offset = int(page_token or 0)
            count = min(limit or PAGE_CHATS, PAGE_CHATS)
            rows = self._database.execute(
                "SELECT *, (SELECT count(*) FROM messages m WHERE m.chat_id = chats.chat_id)"
                " AS message_count FROM chats WHERE archived <= ?"
                " ORDER BY pinned DESC, updated DESC LIMIT ? OFFSET ?",
                (include_archived, count + 1, offset),
            ).fetchall()
            token = str(offset + count) if len(rows) > count else ""
            return [_chat(row) for row in rows[:count]], token

        return await self._run(work)

    async def get_chat(self, chat_id: ChatId) -> tuple[pb.Chat, list[pb.StoredMessage]]:
        """Return a chat with its messages, oldest first. Raises `UnknownChat`."""

        def work() -> tuple[pb.Chat, list[pb.StoredMessage]]:
            chat = self._chat_row(chat_id)
            rows = self._database.execute(
                "SELECT * FROM messages WHERE chat_id = ? ORDER BY number", (chat_id,)
            ).fetchall()
            return _chat(chat), [_message(row) for row in rows]

        return await self._run(work)

    async def update_chat(self, request: pb.UpdateChatRequest) -> pb.Chat:
        """Change the fields that are set. Raises `UnknownChat`."""
        fields = {d.name: value for d, value in request.ListFields() if d.name != "chat_id"}

        def work() -> pb.Chat:
            self._chat_row(ChatId(request.chat_id))
            for name, value in fields.items():
                self._database.execute(
                    f"UPDATE chats SET {name} = ? WHERE chat_id = ?", (value, request.chat_id)
                )
            return _chat(self._chat_row(ChatId(request.chat_id)))

        return await self._transaction(work)

    async def delete_chat(self, chat_id: ChatId) -> None:
        """Delete a chat with its messages. Raises `UnknownChat`."""

        def work() -> None:
            self._chat_row(chat_id)
            self._database.execute("DELETE FROM chats WHERE chat_id = ?", (chat_id,))

        await self._transaction(work)

    async def search(self, query: str, limit: int) -> list[pb.SearchHit]:
        """Return messages that hold all words of a query, the best first."""
        words = " ".join('"' + word.replace('"', '""') + '"' for word in query.split())

        def work() -> list[pb.SearchHit]:
            rows = self._database.execute(
                "SELECT m.chat_id, c.title, m.message_id,"
                " snippet(messages_text, 0, '', '', '…', 16) AS snippet"
                " FROM messages_text JOIN messages m ON m.number = messages_text.rowid"
                " JOIN chats c ON c.chat_id = m.chat_id"
                " WHERE messages_text MATCH ? ORDER BY rank LIMIT ?",
                (words, min(limit or PAGE_CHATS, PAGE_CHATS)),
            ).fetchall()
            return [
                pb.SearchHit(
                    chat_id=row["chat_id"],
                    chat_title=row["title"],
                    message_id=row["message_id"],
                    snippet=row["snippet"],
                )
                for row in rows
            ]

        return await self._run(work) if words else []

    async def count_chats(self) -> int:
        """Return how many chats there are."""

        def work() -> int:
            count: int = self._database.execute("SELECT count(*) FROM chats").fetchone()[0]
            return count

        return await self._run(work)

    async def _execute(self, statement: str, values: Sequence[object]) -> None:
        await self._run(lambda: self._database.execute(statement, values))

    def _chat_row(self, chat_id: ChatId) -> sqlite3.Row:
        row: sqlite3.Row | None = self._database.execute(
            "SELECT *, (SELECT count(*) FROM messages m WHERE m.chat_id = chats.chat_id)"
            " AS message_count FROM chats WHERE chat_id = ?",
            (chat_id,),
        ).fetchone()
        if row is None:
            raise UnknownChat(f"There is no chat {chat_id!r}; it may have been deleted.")
        return row


def _chat(row: sqlite3.Row) -> pb.Chat:
    return pb.Chat(
        chat_id=row["chat_id"],
        title=row["title"],
        model=row["model"],
        system_prompt=row["system_prompt"],
        created_unix_seconds=row["created"],
        updated_unix_seconds=row["updated"],
        pinned=bool(row["pinned"]),
        archived=bool(row["archived"]),
        message_count=row["message_count"],
    )


def _message(row: sqlite3.Row) -> pb.StoredMessage:
    message = pb.StoredMessage(
        message_id=row["message_id"],
        parent_message_id=row["parent_message_id"],
        role=row["role"],
        content=row["content"],
        created_unix_seconds=row["created"],
        generation_id=row["generation_id"] or "",
        model=row["model"],
        node_name=row["node_name"],
    )
    if row["explanation"] is not None:
        message.explanation.ParseFromString(row["explanation"])
    if row["end"] is not None:
        message.end.ParseFromString(row["end"])
    return message
