"""Chats on disk: listed, read, changed, searched."""

from __future__ import annotations

import sqlite3

from potluck_proto.errors import UnknownChat
from potluck_proto.ids import ChatId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.database import Database

PAGE_CHATS = 100


class ChatStore:
    """Chats. Every method raises `StoreError` where the disk fails.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_chats(
        self, limit: int, page_token: str, include_archived: bool
    ) -> tuple[list[pb.Chat], str]:
        """Return chats, pinned ones first, then the newest; and the token of the next page."""

        def work() -> tuple[list[pb.Chat], str]:
            offset = int(page_token or 0)
            count = min(limit or PAGE_CHATS, PAGE_CHATS)
            rows = self._database.rows(
                "SELECT *, (SELECT count(*) FROM messages m WHERE m.chat_id = chats.chat_id)"
                " AS message_count FROM chats WHERE archived <= ?"
                " ORDER BY pinned DESC, updated DESC LIMIT ? OFFSET ?",
                (include_archived, count + 1, offset),
            )
            token = str(offset + count) if len(rows) > count else ""
            return [_chat(row) for row in rows[:count]], token

        return await self._database.run(work)

    async def get_chat(self, chat_id: ChatId) -> tuple[pb.Chat, list[pb.StoredMessage]]:
        """Return a chat with its messages, oldest first. Raises `UnknownChat`."""

        def work() -> tuple[pb.Chat, list[pb.StoredMessage]]:
            chat = self._chat_row(chat_id)
            rows = self._database.rows(
                "SELECT * FROM messages WHERE chat_id = ? ORDER BY number", (chat_id,)
            )
            return _chat(chat), [message_of(row) for row in rows]

        return await self._database.run(work)

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

        return await self._database.transaction(work)

    async def delete_chat(self, chat_id: ChatId) -> None:
        """Delete a chat with its messages. Raises `UnknownChat`."""

        def work() -> None:
            self._chat_row(chat_id)
            self._database.execute("DELETE FROM chats WHERE chat_id = ?", (chat_id,))

        await self._database.transaction(work)

    async def search(self, query: str, limit: int) -> list[pb.SearchHit]:
        """Return messages that hold all words of a query, the best first."""
        words = " ".join('"' + word.replace('"', '""') + '"' for word in query.split())

        def work() -> list[pb.SearchHit]:
            rows = self._database.rows(
                "SELECT m.chat_id, c.title, m.message_id,"
                " snippet(messages_text, 0, '', '', '…', 16) AS snippet"
                " FROM messages_text JOIN messages m ON m.number = messages_text.rowid"
                " JOIN chats c ON c.chat_id = m.chat_id"
                " WHERE messages_text MATCH ? ORDER BY rank LIMIT ?",
                (words, min(limit or PAGE_CHATS, PAGE_CHATS)),
            )
            return [
                pb.SearchHit(
                    chat_id=row["chat_id"],
                    chat_title=row["title"],
                    message_id=row["message_id"],
                    snippet=row["snippet"],
                )
                for row in rows
            ]

        return await self._database.run(work) if words else []

    async def count_chats(self) -> int:
        """Return how many chats there are."""

        def work() -> int:
            (count,) = self._database.rows("SELECT count(*) FROM chats")[0]
            return int(count)

        return await self._database.run(work)

    def _chat_row(self, chat_id: ChatId) -> sqlite3.Row:
        row = self._database.row(
            "SELECT *, (SELECT count(*) FROM messages m WHERE m.chat_id = chats.chat_id)"
            " AS message_count FROM chats WHERE chat_id = ?",
            (chat_id,),
        )
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


def message_of(row: sqlite3.Row) -> pb.StoredMessage:
    """Return a row of `messages`."""
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
    if row["seams"]:
        message.seams.extend(pb.Seams.FromString(row["seams"]).seams)
    if row["explanation"] is not None:
        message.explanation.ParseFromString(row["explanation"])
    if row["end"] is not None:
        message.end.ParseFromString(row["end"])
    return message
