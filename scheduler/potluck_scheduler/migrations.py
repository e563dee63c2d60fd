"""How the chat store came to be as it is: numbered steps, each applied once, in order."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from potluck_proto.errors import StoreError


def m001_chats_and_messages(database: sqlite3.Connection) -> None:
    """Chats, and their messages as a tree; an answer is a message with a generation."""
    database.execute(
        """
        CREATE TABLE chats (
            chat_id TEXT PRIMARY KEY,
            title TEXT NOT NULL,
            model TEXT NOT NULL,
            system_prompt TEXT NOT NULL,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            pinned INTEGER NOT NULL DEFAULT 0,
            archived INTEGER NOT NULL DEFAULT 0
        )"""
    )
    database.execute(
        """
        CREATE TABLE messages (
            number INTEGER PRIMARY KEY,
            message_id TEXT NOT NULL UNIQUE,
            chat_id TEXT NOT NULL REFERENCES chats ON DELETE CASCADE,
            parent_message_id TEXT NOT NULL,
            role INTEGER NOT NULL,
            content TEXT NOT NULL,
            created REAL NOT NULL,
            request_id TEXT UNIQUE,
            generation_id TEXT UNIQUE,
            model TEXT NOT NULL DEFAULT '',
            node_name TEXT NOT NULL DEFAULT '',
            token_ids BLOB NOT NULL DEFAULT x'',
            explanation BLOB,
            "end" BLOB
        )"""
    )
    database.execute("CREATE INDEX messages_by_chat ON messages (chat_id, number)")
    database.execute("CREATE INDEX chats_by_update ON chats (updated)")
    database.execute(
        """
        CREATE INDEX messages_under_way ON messages (number)
        WHERE generation_id IS NOT NULL AND "end" IS NULL"""
    )


def m002_full_text_search(database: sqlite3.Connection) -> None:
    """An index over all messages; an answer enters it when it ends."""
    database.execute("CREATE VIRTUAL TABLE messages_text USING fts5(content)")
    database.execute(
        "INSERT INTO messages_text (rowid, content) SELECT number, content FROM messages"
    )
    database.execute(
        """
        CREATE TRIGGER messages_added AFTER INSERT ON messages WHEN new.generation_id IS NULL BEGIN
            INSERT INTO messages_text (rowid, content) VALUES (new.number, new.content);
        END"""
    )
    database.execute(
        """
        CREATE TRIGGER messages_ended AFTER UPDATE OF "end" ON messages
        WHEN new."end" IS NOT NULL BEGIN
            DELETE FROM messages_text WHERE rowid = new.number;
            INSERT INTO messages_text (rowid, content) VALUES (new.number, new.content);
        END"""
    )
    database.execute(
        """
        CREATE TRIGGER messages_deleted AFTER DELETE ON messages BEGIN
            DELETE FROM messages_text WHERE rowid = old.number;
        END"""
    )


def m003_answers_that_move(database: sqlite3.Connection) -> None:
    """How an answer was asked for, where it moved, and whose vocabulary its tokens are of."""
    database.execute("ALTER TABLE messages ADD COLUMN request BLOB")
    database.execute("ALTER TABLE messages ADD COLUMN seams BLOB NOT NULL DEFAULT x''")
    database.execute("ALTER TABLE messages ADD COLUMN lineage TEXT NOT NULL DEFAULT ''")


def m004_speeds(database: sqlite3.Connection) -> None:
    """How fast each model is on each node, as learned; see `core/speeds.py` for the columns."""
    database.execute(
        """
        CREATE TABLE speeds (
            node_id TEXT NOT NULL,
            model TEXT NOT NULL,
            quantization TEXT NOT NULL,
            samples INTEGER NOT NULL,
            busy REAL NOT NULL,
            token_seconds REAL NOT NULL,
            busy_variance REAL NOT NULL,
            covariance REAL NOT NULL,
            prefill_token_seconds REAL NOT NULL,
            load_seconds REAL NOT NULL,
            PRIMARY KEY (node_id, model, quantization)
        )"""
    )


def m005_an_answer_ends_once(database: sqlite3.Connection) -> None:
    """An answer enters the index when it ends, and was not in it before: nothing is deleted."""
    database.execute("DROP TRIGGER messages_ended")
    database.execute(
        """
        CREATE TRIGGER messages_ended AFTER UPDATE OF "end" ON messages
        WHEN old."end" IS NULL AND new."end" IS NOT NULL BEGIN
            INSERT INTO messages_text (rowid, content) VALUES (new.number, new.content);
        END"""
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_chats_and_messages,
    m002_full_text_search,
    m003_answers_that_move,
    m004_speeds,
    m005_an_answer_ends_once,
)


def migrate(
    database: sqlite3.Connection,
    migrations: tuple[Callable[[sqlite3.Connection], None], ...] = MIGRATIONS,
) -> None:
    """Apply the steps that a database lacks, each in a transaction of its own.

    Raises `StoreError` for a database that a newer version made.
    """
    database.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied REAL)")
    applied = {name for (name,) in database.execute("SELECT name FROM migrations")}
    if unknown := applied - {step.__name__ for step in MIGRATIONS}:
        raise StoreError(
            f"The chat store was written by a newer version of Potluck ({sorted(unknown)[0]}). "
            "Install that version, or set POTLUCK_HOME to another folder."
        )
    for step in migrations:
        if step.__name__ not in applied:
            database.execute("BEGIN IMMEDIATE")
            step(database)
            database.execute("INSERT INTO migrations VALUES (?, ?)", (step.__name__, time.time()))
            database.execute("COMMIT")
