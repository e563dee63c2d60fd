"""The chat store, as far as whole chats go: lists, pages, search, presets, what is put away."""

from __future__ import annotations

import sqlite3
import time

from potluck_proto.errors import BadRequest
from potluck_proto.ids import ChatId, MessageId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler import rows, search
from potluck_scheduler.branches import Branches, Node
from potluck_scheduler.database import Database
from potluck_scheduler.store import chat_row, read_branches

LIST_LIMIT = 500
LIST_DEFAULT = 100
SEARCH_LIMIT = 100

PAGE_BYTES = 4 * 2**20
"""A page of messages ends before this, so that it fits into a gRPC message."""

READ_TOGETHER = 50
"""Messages that are read at once for a page."""

KEPT_DELETED_SECONDS = 7 * 24 * 3600.0
"""How long a deleted chat can be restored."""

PROMPT_CHARACTERS = 4000
"""Longer prompts are not listed for asking again."""

PRESET_NAME_CHARACTERS = 40

_SHELVES = {
    pb.SHELF_UNSPECIFIED: "archived = 0 AND deleted IS NULL",
    pb.SHELF_CURRENT: "archived = 0 AND deleted IS NULL",
    pb.SHELF_ARCHIVED: "archived = 1 AND deleted IS NULL",
    pb.SHELF_DELETED: "deleted IS NOT NULL",
}


class ChatShelf:
    """Whole chats on disk. Every method raises `StoreError` where the disk fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- Reading ---------------------------------------------------------------------------------

    async def chats(self, request: pb.ListChatsRequest) -> tuple[list[pb.Chat], str]:
        """Return chats, pinned ones first, then the newest; and the token of the next page.

        A page begins after the last chat of the one before, so that none is left out and none comes
        twice, whatever chats are added meanwhile.

        Raises:
            BadRequest: The token is not one of ours, or there is no such shelf.
        """
        if request.shelf not in _SHELVES:
            raise BadRequest(f"There is no shelf {request.shelf}.")
        count = min(request.limit or LIST_DEFAULT, LIST_LIMIT)
        wanted = [_SHELVES[request.shelf]]
        values: list[object] = []
        if request.query:
            wanted.append("(title LIKE ? ESCAPE '!' OR chat_id LIKE ? ESCAPE '!')")
            pattern = search.like(request.query)
            values += [pattern, pattern.removeprefix("%")]
        if request.page_token:
            wanted.append("(pinned, updated, chat_id) < (?, ?, ?)")
            values += _read_token(request.page_token)
        query = (
            f"SELECT {rows.CHAT} FROM chats WHERE {' AND '.join(wanted)}"
            " ORDER BY pinned DESC, updated DESC, chat_id DESC LIMIT ?"
        )
        found = await self._database.run(lambda: self._database.rows(query, (*values, count + 1)))
        token = _token(found[count - 1]) if len(found) > count else ""
        return [rows.chat(row) for row in found[:count]], token

    async def chat(self, request: pb.GetChatRequest) -> pb.GetChatResponse:
        """Return a chat with a page of its messages, or only the chat where that is known.

        Raises:
            UnknownChat: There is no chat of that id.
            BadRequest: The message that the page is to end before is not in it.
        """
        return await self._database.run(lambda: self._chat(request))

    def _chat(self, request: pb.GetChatRequest) -> pb.GetChatResponse:
        chat_id = ChatId(request.chat_id)
        response = pb.GetChatResponse(chat=rows.chat(chat_row(self._database, chat_id)))
        if request.known_revision and request.known_revision == response.chat.revision:
            response.unchanged = True
            return response
        branches = read_branches(self._database, chat_id)
        wanted = list(branches) if request.all_branches else _with_neighbours(branches)
        if before := request.before_message_id:
            ids = [node.message_id for node in wanted]
            if before not in ids:
                raise BadRequest(f"There is no message {before!r} on the branch that is shown.")
            wanted = wanted[: ids.index(MessageId(before))]
        page = self._last_page(wanted)
        shown = {node.message_id for node in branches.shown()}
        for message in page:
            node = branches[MessageId(message.message_id)]
            message.sibling_ids.extend(other.message_id for other in branches.siblings(node))
            message.shown = node.message_id in shown
        response.messages.extend(page)
        response.has_earlier = len(page) < len(wanted)
        return response

    def _last_page(self, nodes: list[Node]) -> list[pb.StoredMessage]:
        """Return the last messages of some, as many as fit a page; one at least."""
        page: list[pb.StoredMessage] = []
        size_bytes = 0
        for stop in range(len(nodes), 0, -READ_TOGETHER):
            for message in reversed(self._messages(nodes[max(0, stop - READ_TOGETHER) : stop])):
                size_bytes += message.ByteSize()
                if page and size_bytes > PAGE_BYTES:
                    return page[::-1]
                page.append(message)
        return page[::-1]

    def _messages(self, nodes: list[Node]) -> list[pb.StoredMessage]:
        marks = ", ".join("?" * len(nodes))
        found = self._database.rows(
            f"SELECT * FROM messages WHERE message_id IN ({marks})",
            [node.message_id for node in nodes],
        )
        messages = {row["message_id"]: rows.message(row) for row in found}
        return [messages[node.message_id] for node in nodes]

    async def search(self, query: str, limit: int) -> list[pb.SearchHit]:
        """Return the chats and messages that hold all words of a query (see `search`)."""
        limit = min(limit or SEARCH_LIMIT, SEARCH_LIMIT)
        return await self._database.run(lambda: search.find(self._database, query, limit))

    async def prompts(self, limit: int) -> list[str]:
        """Return what was asked lately, the newest first, each once."""
        query = (
            "SELECT content FROM messages m JOIN chats c USING (chat_id) WHERE role = ?"
            " AND deleted IS NULL AND length(content) <= ? ORDER BY m.number DESC LIMIT ?"
        )
        values = (types.ROLE_USER, PROMPT_CHARACTERS, min(limit or LIST_DEFAULT, LIST_LIMIT))
        found = await self._database.run(lambda: self._database.rows(query, values))
        return list(dict.fromkeys(row["content"] for row in found))

    async def count(self) -> int:
        """Return how many chats there are that are not deleted."""
        query = "SELECT count(*) FROM chats WHERE deleted IS NULL"
        return int(await self._database.run(lambda: self._database.value(query)))

    # --- Changing --------------------------------------------------------------------------------

    async def update(self, request: pb.UpdateChatRequest) -> pb.Chat:
        """Change the fields that are set. Raises `UnknownChat`."""
        fields = {field.name: value for field, value in request.ListFields()}
        fields.pop("chat_id", None)
        if request.HasField("preset"):
            fields["preset"] = request.preset.SerializeToString()
        chat_id = ChatId(request.chat_id)

        def work() -> pb.Chat:
            chat_row(self._database, chat_id)
            for name, value in fields.items():
                self._database.execute(
                    f"UPDATE chats SET {name} = ?, revision = revision + 1 WHERE chat_id = ?",
                    (value, chat_id),
                )
            return rows.chat(chat_row(self._database, chat_id))

        return await self._database.transaction(work)

    async def delete(self, chat_id: ChatId) -> None:
        """Put a chat away, to be restored or purged. Raises `UnknownChat`."""

        def work() -> None:
            chat_row(self._database, chat_id)
            self._set_deleted(chat_id, time.time())

        await self._database.transaction(work)

    async def restore(self, chat_id: ChatId) -> None:
        """Take a deleted chat back. Raises `UnknownChat` where it is gone for good."""

        def work() -> None:
            chat_row(self._database, chat_id, also_deleted=True)
            self._set_deleted(chat_id, None)

        await self._database.transaction(work)

    def _set_deleted(self, chat_id: ChatId, when: float | None) -> None:
        self._database.execute("UPDATE chats SET deleted = ? WHERE chat_id = ?", (when, chat_id))

    async def purge(self, kept_seconds: float = KEPT_DELETED_SECONDS) -> int:
        """Delete for good what was deleted longer ago than that; return how many chats."""
        before = time.time() - kept_seconds

        def work() -> int:
            return self._database.execute("DELETE FROM chats WHERE deleted < ?", (before,)).rowcount

        return await self._database.transaction(work)

    # --- Presets ---------------------------------------------------------------------------------

    async def presets(self) -> list[pb.Preset]:
        """Return all presets that have a name, by name."""
        query = "SELECT preset FROM presets ORDER BY name"
        found = await self._database.run(lambda: self._database.rows(query))
        return [pb.Preset.FromString(row["preset"]) for row in found]

    async def save_preset(self, preset: pb.Preset) -> None:
        """Store a preset in the place of the one of its name. Raises `BadRequest`."""
        name = preset.name
        if not name.strip() or len(name) > PRESET_NAME_CHARACTERS or not name.isprintable():
            raise BadRequest(
                f"A preset's name has 1 to {PRESET_NAME_CHARACTERS} characters on one line; this "
                f"one has {len(name)}."
            )

        def work() -> None:
            self._database.execute(
                "INSERT OR REPLACE INTO presets VALUES (?, ?)", (name, preset.SerializeToString())
            )

        await self._database.transaction(work)

    async def delete_preset(self, name: str) -> None:
        """Forget a preset; the chats that took it keep its values."""

        def work() -> None:
            self._database.execute("DELETE FROM presets WHERE name = ?", (name,))

        await self._database.transaction(work)


def _with_neighbours(branches: Branches) -> list[Node]:
    """Return the branch that is shown, with the answers that stand beside one of it."""
    return [other for node in branches.shown() for other in branches.together(node)]


def _token(row: sqlite3.Row) -> str:
    return f"{row['pinned']}:{row['updated']!r}:{row['chat_id']}"


def _read_token(token: str) -> list[object]:
    try:
        pinned, updated, chat_id = token.split(":")
        return [int(pinned), float(updated), chat_id]
    except ValueError:
        raise BadRequest("The page token is not one of ours.") from None
