"""Full-text search over the chats: what was typed as a query of SQLite's FTS5, and its hits."""

from __future__ import annotations

import re
import sqlite3

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.database import Database

PREFIX_CHARACTERS = 2
"""The last word counts as the beginning of one from here on; a single letter begins too many."""

TITLE_HITS = 20
_START, _END = "\x02", "\x03"
_TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')


def find(database: Database, query: str, limit: int) -> list[pb.SearchHit]:
    """Return what holds all words of a query; for work on the database's thread."""
    words = terms(query)
    if not words:
        return []
    found = database.rows(
        "SELECT m.chat_id, c.title, m.message_id, m.role, m.created,"
        " snippet(messages_text, 0, ?, ?, '…', 16) AS snippet"
        " FROM messages_text JOIN messages m ON m.number = messages_text.rowid"
        " JOIN chats c ON c.chat_id = m.chat_id AND c.deleted IS NULL"
        # Newest first is the order of the index, so the rest of it need not be read.
        " WHERE messages_text MATCH ? ORDER BY messages_text.rowid DESC LIMIT ?",
        (_START, _END, match_expression(words), limit),
    )
    # A title is the first line of the first question until somebody gives another.
    known = {row["chat_id"] for row in found}
    titles = [row for row in _titles(database, words) if row["chat_id"] not in known]
    return [*map(_title_hit, titles), *map(_message_hit, found)][:limit]


def terms(query: str) -> list[str]:
    """Return the words of a query; those between double quotes are one."""
    found = [quoted or bare for quoted, bare in _TERM.findall(query)]
    # FTS5 sees letters and digits alone; a word without any would match nothing, and all would.
    return [term for term in found if any(character.isalnum() for character in term)]


def match_expression(words: list[str]) -> str:
    """Return words as FTS5 takes them, whatever is in them."""
    quoted = ['"' + word.replace('"', '""') + '"' for word in words]
    if len(words[-1]) >= PREFIX_CHARACTERS:
        quoted[-1] += "*"
    return " ".join(quoted)


def like(text: str) -> str:
    """Return a pattern for LIKE, with `!` as its escape, of whatever holds a text."""
    return "%" + re.sub("([%_!])", r"!\1", text) + "%"


def _titles(database: Database, words: list[str]) -> list[sqlite3.Row]:
    holds_all = " AND ".join(["title LIKE ? ESCAPE '!'"] * len(words))
    return database.rows(
        f"SELECT chat_id, title, updated FROM chats WHERE deleted IS NULL AND {holds_all}"
        " ORDER BY updated DESC LIMIT ?",
        (*map(like, words), TITLE_HITS),
    )


def _title_hit(row: sqlite3.Row) -> pb.SearchHit:
    return pb.SearchHit(
        chat_id=row["chat_id"], chat_title=row["title"], created_unix_seconds=row["updated"]
    )


def _message_hit(row: sqlite3.Row) -> pb.SearchHit:
    return pb.SearchHit(
        chat_id=row["chat_id"],
        chat_title=row["title"],
        message_id=row["message_id"],
        snippet=_parts(row["snippet"]),
        role=row["role"],
        created_unix_seconds=row["created"],
    )


def _parts(snippet: str) -> list[pb.SnippetPart]:
    """Take a snippet apart at the marks around what matched."""
    parts = []
    for number, piece in enumerate(re.split(f"[{_START}{_END}]", snippet)):
        if piece:
            parts.append(pb.SnippetPart(text=piece, match=number % 2 == 1))
    return parts
