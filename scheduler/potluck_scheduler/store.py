"""The chat store, as far as somebody asks: questions, empty answers, and the branches they make.

A question is a message; an answer is a message with a generation. How answers grow is in
`answer_store`, what is read of whole chats in `shelf`; how the disk is used, and what can be relied
on, in `database`.
"""

from __future__ import annotations

import array
import sqlite3
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from potluck_proto.errors import BadRequest, UnknownChat
from potluck_proto.ids import ChatId, GenerationId, MessageId, new_id, new_seed
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler import rows
from potluck_scheduler.branches import START, Branches, Node
from potluck_scheduler.database import Database
from potluck_scheduler.submission import Submission

TITLE_CHARACTERS = 60

TOKEN_BYTES = array.array("I").itemsize

CUT = {
    types.END_REASON_STOPPED: "",
    types.END_REASON_MAX_TOKENS: "",
    types.END_REASON_FAILED: "",
    types.END_REASON_CONTEXT_FULL: "the model's context is full. Start a new chat, or load the "
    "model with a larger context_length",
}
"""The ends of answers that are not complete, and why one cannot go on."""


class ChatStore:
    """Questions and answers on disk. Every method raises `StoreError` where the disk fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- Asking ----------------------------------------------------------------------------------

    async def chat_bytes(self, chat_id: ChatId) -> int:
        """Return how long a chat is, all branches and files together; 0 for an unknown one."""
        query = (
            "SELECT coalesce(sum(length(CAST(content AS BLOB)) + coalesce(length(asked), 0)), 0)"
            " FROM messages WHERE chat_id = ?"
        )
        return int(await self._database.run(lambda: self._database.value(query, (chat_id,))))

    async def submit(
        self, request: pb.SubmitRequest, under_way: AbstractSet[GenerationId] = frozenset()
    ) -> Submission:
        """Store a question and an empty answer, in a new chat where none is named.

        A request id that was seen before stores nothing and returns what it stored then.

        Args:
            request: What is asked.
            under_way: Answers that a question cannot follow yet.

        Raises:
            UnknownChat: There is no chat of that id.
            BadRequest: The parent message is in another chat, a question, or under way.
        """
        return await self._database.transaction(lambda: self._submit(request, under_way))

    def _submit(
        self, request: pb.SubmitRequest, under_way: AbstractSet[GenerationId]
    ) -> Submission:
        if request.request_id and (known := self._repeated(request.request_id)):
            return known
        chat_id = ChatId(request.chat_id) or self._create_chat(request)
        chat = self._chat(chat_id)
        branches = self._branches(chat_id)
        parent = branches.last_shown()
        if request.HasField("parent_message_id"):
            parent = MessageId(request.parent_message_id)
        way = self._way(branches, parent)
        if way and len(way) % 2:
            raise BadRequest(f"The message {parent} is a question; a new one follows an answer.")
        if way and self._message(parent)["generation_id"] in under_way:
            raise BadRequest("An answer is under way in this chat; wait for it or stop it first.")
        model = request.model or chat["model"]
        revision = self._revise(chat_id, model=model, updated=time.time())
        question = Node(MessageId(new_id()), parent, revision)
        self._add(
            chat_id, question, types.ROLE_USER, request.content,
            asked=pb.SubmitRequest(attachments=request.attachments), request_id=request.request_id,
        )  # fmt: skip
        way = [*way, question]
        asked = _how(chat, request)
        first = self._add_answer(chat, way, model, asked, revision)
        beside = None
        if other := chat["beside_model"]:
            beside = self._add_answer(chat, way, other, asked, 0, first.answer_message_id)
        return replace(first, revision=revision, beside=beside)

    def _repeated(self, request_id: str) -> Submission | None:
        row = self._database.row(
            "SELECT u.chat_id, u.message_id AS user_id, a.message_id AS answer_id, a.generation_id,"
            " a.model, c.revision FROM messages u"
            " JOIN messages a ON a.parent_message_id = u.message_id AND a.chat_id = u.chat_id"
            " JOIN chats c ON c.chat_id = u.chat_id WHERE u.request_id = ? ORDER BY a.number",
            (request_id,),
        )
        if row is None:
            return None
        return Submission(
            row["chat_id"], row["user_id"], row["answer_id"], row["generation_id"], row["model"],
            (), pb.SubmitRequest(), row["revision"], repeated=True,
        )  # fmt: skip

    async def regenerate(self, request: pb.RegenerateRequest) -> Submission:
        """Store another empty answer to a question. Raises `UnknownChat` or `BadRequest`."""

        def work() -> Submission:
            chat_id = ChatId(request.chat_id)
            chat = self._chat(chat_id)
            branches = self._branches(chat_id)
            way = self._way(branches, MessageId(request.message_id))
            if not way:
                raise BadRequest("The request names no message.")
            answer = way.pop() if len(way) % 2 == 0 else None
            if request.beside and answer is None:
                raise BadRequest("An answer stands beside another answer, and this is a question.")
            revision = self._revise(chat_id, updated=time.time())
            model = request.model or chat["model"]
            asked = _how(chat, pb.SubmitRequest(nodes=request.nodes))
            if request.beside and answer is not None:
                first = answer.beside_id or answer.message_id
                return self._add_answer(chat, way, model, asked, 0, first)
            self._choose(way, revision)
            return self._add_answer(chat, way, model, asked, revision)

        return await self._database.transaction(work)

    async def reopen(self, chat_id: ChatId, answer_id: MessageId) -> Submission:
        """Take the end from a cut answer, so that it can go on.

        Raises:
            UnknownChat: There is no chat of that id.
            BadRequest: The answer is complete, under way, or followed by other messages.
        """

        def work() -> Submission:
            chat = self._chat(chat_id)
            branches = self._branches(chat_id)
            way = self._way(branches, answer_id)
            if not way:
                raise BadRequest("The request names no message.")
            row = self._message(answer_id)
            stored = rows.message(row)
            _check_cut(stored, followed=branches.is_followed(answer_id))
            self._revise(chat_id, updated=time.time())
            text, tokens = stored.content, len(row["token_ids"]) // TOKEN_BYTES
            if tokens:
                # The mark of a character that was cut in two: its second half is yet to come.
                text = text.rstrip("\ufffd")
            self._database.execute(
                'UPDATE messages SET "end" = NULL, content = ?, continued_tokens = ?'
                " WHERE message_id = ?",
                (text, tokens, answer_id),
            )
            going_on = self._going_on(chat, branches, self._message(answer_id))
            return replace(going_on, thought_seconds=stored.end.usage.thought_seconds)

        return await self._database.transaction(work)

    async def unfinished(self) -> list[Submission]:
        """Return the answers that an earlier scheduler left under way, the oldest first."""

        def work() -> list[Submission]:
            found = self._database.rows(
                'SELECT * FROM messages WHERE generation_id IS NOT NULL AND "end" IS NULL'
                " ORDER BY number"
            )
            return [self._left(row) for row in found]

        return await self._database.run(work)

    def _left(self, row: sqlite3.Row) -> Submission:
        chat = chat_row(self._database, ChatId(row["chat_id"]), also_deleted=True)
        return self._going_on(chat, self._branches(chat["chat_id"]), row)

    def _going_on(self, chat: sqlite3.Row, branches: Branches, row: sqlite3.Row) -> Submission:
        """Return an answer that has something already, as it stands on disk."""
        stored = rows.message(row)
        way = branches.way_to(MessageId(stored.message_id))
        return Submission(
            chat_id=chat["chat_id"],
            user_message_id=MessageId(stored.parent_message_id),
            answer_message_id=MessageId(stored.message_id),
            generation_id=GenerationId(stored.generation_id),
            model=stored.model,
            conversation=self._conversation(chat, way[:-1]),
            asked=rows.asked(row),
            text=stored.content,
            token_ids=tuple(array.array("I", row["token_ids"])),
            lineage=row["lineage"],
            continued_tokens=row["continued_tokens"],
            node_name=stored.node_name,
            explanation=stored.explanation if stored.HasField("explanation") else None,
            seams=tuple(stored.seams),
        )

    async def select(self, chat_id: ChatId, message_id: MessageId) -> None:
        """Show the branch through a message. Raises `UnknownChat` or `BadRequest`."""

        def work() -> None:
            self._chat(chat_id)
            way = self._way(self._branches(chat_id), message_id)
            self._choose(way, self._revise(chat_id))

        await self._database.transaction(work)

    def _create_chat(self, request: pb.SubmitRequest) -> ChatId:
        chat_id = ChatId(new_id())
        first_line = (request.content.strip() or request.attachments[0].name).splitlines()[0]
        now = time.time()
        self._database.execute(
            "INSERT INTO chats (chat_id, title, model, system_prompt, created, updated, preset,"
            " beside_model) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (chat_id, first_line[:TITLE_CHARACTERS], request.model, request.system_prompt, now, now,
             request.preset.SerializeToString(), request.beside_model),
        )  # fmt: skip
        return chat_id

    def _add_answer(
        self,
        chat: sqlite3.Row,
        way: Sequence[Node],
        model: str,
        asked: pb.SubmitRequest,
        chosen: int,
        beside_id: MessageId = START,
    ) -> Submission:
        """Store an empty answer at the end of a way, which is a question."""
        chat_id, question_id = ChatId(chat["chat_id"]), way[-1].message_id
        answer = Node(MessageId(new_id()), question_id, chosen, beside_id)
        generation_id = GenerationId(new_id())
        self._add(
            chat_id, answer, types.ROLE_ASSISTANT, "",
            asked=asked, generation_id=generation_id, model=model,
        )  # fmt: skip
        return Submission(
            chat_id, question_id, answer.message_id, generation_id, model,
            self._conversation(chat, way), asked,
        )  # fmt: skip

    def _add(
        self,
        chat_id: ChatId,
        node: Node,
        role: types.Role.ValueType,
        content: str,
        *,
        asked: pb.SubmitRequest,
        request_id: str = "",
        generation_id: str = "",
        model: str = "",
    ) -> None:
        self._database.execute(
            "INSERT INTO messages (message_id, chat_id, parent_message_id, chosen, beside, role,"
            " content, created, request_id, generation_id, model, asked)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (node.message_id, chat_id, node.parent_id, node.chosen, node.beside_id, role, content,
             time.time(), request_id or None, generation_id or None, model,
             asked.SerializeToString()),
        )  # fmt: skip

    # --- The tree --------------------------------------------------------------------------------

    def _branches(self, chat_id: ChatId) -> Branches:
        return read_branches(self._database, chat_id)

    def _way(self, branches: Branches, message_id: MessageId) -> list[Node]:
        """Return the way to a message that somebody named. Raises `BadRequest`."""
        if message_id != START and message_id not in branches:
            raise BadRequest(f"There is no message {message_id!r} in this chat.")
        return branches.way_to(message_id)

    def _choose(self, way: Sequence[Node], revision: int) -> None:
        for node in way:
            self._database.execute(
                "UPDATE messages SET chosen = ? WHERE message_id = ?", (revision, node.message_id)
            )

    def _revise(self, chat_id: ChatId, **columns: object) -> int:
        """Count a change of a chat; return its revision now."""
        changes = "".join(f", {name} = ?" for name in columns)
        self._database.execute(
            f"UPDATE chats SET revision = revision + 1{changes} WHERE chat_id = ?",
            (*columns.values(), chat_id),
        )
        revision: int = self._database.value(
            "SELECT revision FROM chats WHERE chat_id = ?", (chat_id,)
        )
        return revision

    def _conversation(self, chat: sqlite3.Row, way: Sequence[Node]) -> tuple[types.Message, ...]:
        """Return what the model is to see at the end of a way, which is a question.

        An answer without a word, such as one that failed at once, is left out together with its
        question: most templates want question and answer in turn.
        """
        system = chat["system_prompt"]
        messages = [types.Message(role=types.ROLE_SYSTEM, content=system)] if system else []
        *before, last = [self._message(node.message_id) for node in way]
        for question, answer in zip(before[::2], before[1::2], strict=True):
            if answer["content"]:
                messages += map(rows.model_message, (question, answer))
        return (*messages, rows.model_message(last))

    def _chat(self, chat_id: ChatId) -> sqlite3.Row:
        return chat_row(self._database, chat_id)

    def _message(self, message_id: MessageId) -> sqlite3.Row:
        row = self._database.row("SELECT * FROM messages WHERE message_id = ?", (message_id,))
        assert row is not None
        return row


def read_branches(database: Database, chat_id: ChatId) -> Branches:
    """Return the tree of a chat; for work on the database's thread."""
    return Branches(
        Node(row["message_id"], row["parent_message_id"], row["chosen"], row["beside"])
        for row in database.rows(
            "SELECT message_id, parent_message_id, chosen, beside FROM messages"
            " WHERE chat_id = ? ORDER BY number",
            (chat_id,),
        )
    )


def chat_row(database: Database, chat_id: ChatId, *, also_deleted: bool = False) -> sqlite3.Row:
    """Return a chat's row, for work on the database's thread. Raises `UnknownChat`."""
    row = database.row(f"SELECT {rows.CHAT} FROM chats WHERE chat_id = ?", (chat_id,))
    if row is None or (row["deleted"] is not None and not also_deleted):
        raise UnknownChat(f"There is no chat {chat_id!r}; it may have been deleted.")
    return row


def _how(chat: sqlite3.Row, request: pb.SubmitRequest) -> pb.SubmitRequest:
    """Return how an answer is to be made: as asked, else as the chat's preset says."""
    preset = pb.Preset.FromString(chat["preset"])
    sampling = request.sampling if request.HasField("sampling") else preset.sampling
    how = pb.SubmitRequest(
        sampling=sampling,
        nodes=request.nodes,
        tags=request.tags,
        client=request.client,
        no_move=request.no_move,
    )
    if not sampling.HasField("seed"):
        # So an answer that moves is drawn as it would have been.
        how.sampling.seed = new_seed()
    if preset.HasField("thinking"):
        how.thinking = preset.thinking
    if request.HasField("thinking"):
        how.thinking = request.thinking
    return how


def _check_cut(answer: pb.StoredMessage, *, followed: bool) -> None:
    """Raise `BadRequest` where an answer cannot go on."""
    if answer.role != types.ROLE_ASSISTANT:
        raise BadRequest("Only an answer can go on, and this is a question.")
    if not answer.HasField("end"):
        raise BadRequest("This answer is under way.")
    why_not = CUT.get(answer.end.reason, "it is complete")
    if followed:
        why_not = "other messages follow it; ask again instead, which makes another branch"
    if why_not:
        raise BadRequest(f"This answer cannot go on: {why_not}.")
