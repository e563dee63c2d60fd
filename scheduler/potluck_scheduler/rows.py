"""Rows of the chat store as messages of the contract."""

from __future__ import annotations

import sqlite3

from potluck_proto.reasoning import split_thought
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types

CHAT = "*, (SELECT count(*) FROM messages m WHERE m.chat_id = chats.chat_id) AS message_count"
"""The columns of `chat`."""


def chat(row: sqlite3.Row) -> pb.Chat:
    """Return a chat."""
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
        revision=row["revision"],
        preset=pb.Preset.FromString(row["preset"]),
        beside_model=row["beside_model"],
        shelf=_shelf(row),
    )


def _shelf(row: sqlite3.Row) -> pb.Shelf.ValueType:
    if row["deleted"] is not None:
        return pb.SHELF_DELETED
    return pb.SHELF_ARCHIVED if row["archived"] else pb.SHELF_CURRENT


def message(row: sqlite3.Row) -> pb.StoredMessage:
    """Return a message, without what its place in the tree says of it."""
    stored = pb.StoredMessage(
        message_id=row["message_id"],
        parent_message_id=row["parent_message_id"],
        role=row["role"],
        content=row["content"],
        created_unix_seconds=row["created"],
        generation_id=row["generation_id"] or "",
        model=row["model"],
        node_name=row["node_name"],
        attachments=asked(row).attachments,
        seams=seams(row),
        beside_message_id=row["beside"],
    )
    if row["explanation"] is not None:
        stored.explanation.ParseFromString(row["explanation"])
    if row["end"] is not None:
        stored.end.ParseFromString(row["end"])
    return stored


def asked(row: sqlite3.Row) -> pb.SubmitRequest:
    """Return what was asked for with a message: attachments, or how an answer is to be made."""
    return pb.SubmitRequest.FromString(row["asked"])


def seams(row: sqlite3.Row) -> list[pb.Seam]:
    """Return where an answer went on."""
    return list(pb.AnswerHead.FromString(row["seams"]).seams)


def question(content: str, attachments: list[pb.Attachment]) -> str:
    """Return what the model reads as a question.

    The files come first: so the next question about them finds them in the prefix cache.
    """
    return "\n\n".join([*map(_file, attachments), content])


def _file(attachment: pb.Attachment) -> str:
    fence = "```"
    while fence in attachment.content:
        fence += "`"
    return f"File: {attachment.name}\n{fence}\n{attachment.content.rstrip()}\n{fence}"


def model_message(row: sqlite3.Row) -> types.Message:
    """Return a message as the model's chat template sees it."""
    if row["role"] != types.ROLE_ASSISTANT:
        content = question(row["content"], list(asked(row).attachments))
        return types.Message(role=row["role"], content=content)
    spoken = split_thought(row["content"])
    return types.Message(role=row["role"], content=spoken.said, reasoning=spoken.thought)
