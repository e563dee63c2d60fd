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


def m003_branches(database: sqlite3.Connection) -> None:
    """Which branch of a chat is shown, what was asked for with each message, where answers moved.

    `asked` is a `SubmitRequest`: of a question its attachments, of an answer how it is to be made.
    `seams` is an `AnswerHead` that has nothing else.
    """
    database.execute("ALTER TABLE chats ADD COLUMN revision INTEGER NOT NULL DEFAULT 0")
    database.execute(
        "UPDATE chats SET revision = coalesce("
        "(SELECT max(number) FROM messages m WHERE m.chat_id = chats.chat_id), 0)"
    )
    database.execute("ALTER TABLE messages ADD COLUMN chosen INTEGER NOT NULL DEFAULT 0")
    database.execute("UPDATE messages SET chosen = number")
    database.execute("ALTER TABLE messages ADD COLUMN beside TEXT NOT NULL DEFAULT ''")
    database.execute("ALTER TABLE messages ADD COLUMN asked BLOB NOT NULL DEFAULT x''")
    database.execute("ALTER TABLE messages ADD COLUMN seams BLOB NOT NULL DEFAULT x''")
    database.execute("DROP INDEX messages_by_chat")
    # Holds all that a tree is made of, so that long messages need not be read for it.
    database.execute(
        "CREATE INDEX messages_of_chat ON messages"
        " (chat_id, number, message_id, parent_message_id, chosen, beside)"
    )


def m004_shelves_and_presets(database: sqlite3.Connection) -> None:
    """Chats that are put away, and how their answers are made."""
    database.execute("ALTER TABLE chats ADD COLUMN deleted REAL")
    database.execute("ALTER TABLE chats ADD COLUMN preset BLOB NOT NULL DEFAULT x''")
    database.execute("ALTER TABLE chats ADD COLUMN beside_model TEXT NOT NULL DEFAULT ''")
    database.execute("DROP INDEX chats_by_update")
    database.execute("CREATE INDEX chats_in_order ON chats (archived, pinned, updated, chat_id)")
    database.execute("CREATE TABLE presets (name TEXT PRIMARY KEY, preset BLOB NOT NULL)")


def m005_text_indexed_once(database: sqlite3.Connection) -> None:
    """A search index that does not keep a second copy of each message.

    It is told what to forget by the very text that it learned: an answer is learned when it ends,
    forgotten when it goes on. Two letters are enough to search by the beginning of a word.
    """
    for trigger in ("messages_added", "messages_ended", "messages_deleted"):
        database.execute(f"DROP TRIGGER {trigger}")
    database.execute("DROP TABLE messages_text")
    database.execute(
        "CREATE VIRTUAL TABLE messages_text USING fts5(content, content='messages',"
        " content_rowid='number', tokenize='unicode61 remove_diacritics 2', prefix='2 3')"
    )
    database.execute(
        "INSERT INTO messages_text (rowid, content) SELECT number, content FROM messages"
        ' WHERE generation_id IS NULL OR "end" IS NOT NULL'
    )
    learn = "INSERT INTO messages_text (rowid, content) VALUES (new.number, new.content)"
    forget = (
        "INSERT INTO messages_text (messages_text, rowid, content)"
        " VALUES ('delete', old.number, old.content)"
    )
    for name, when, do in (
        ("learn_question", "INSERT ON messages WHEN new.generation_id IS NULL", learn),
        (
            "learn_answer",
            'UPDATE OF "end" ON messages WHEN new."end" IS NOT NULL AND old."end" IS NULL',
            learn,
        ),
        (
            "forget_answer_that_goes_on",
            'UPDATE OF "end" ON messages WHEN new."end" IS NULL AND old."end" IS NOT NULL',
            forget,
        ),
        (
            "forget_message",
            'DELETE ON messages WHEN old.generation_id IS NULL OR old."end" IS NOT NULL',
            forget,
        ),
    ):
        database.execute(f"CREATE TRIGGER {name} AFTER {when} BEGIN {do}; END")


def m006_answers_that_move(database: sqlite3.Connection) -> None:
    """Whose vocabulary an answer's tokens are of, and how many it had when it last went on."""
    database.execute("ALTER TABLE messages ADD COLUMN lineage TEXT NOT NULL DEFAULT ''")
    database.execute("ALTER TABLE messages ADD COLUMN continued_tokens INTEGER NOT NULL DEFAULT 0")


def m007_speeds(database: sqlite3.Connection) -> None:
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


def m008_benchmarks(database: sqlite3.Connection) -> None:
    """The last benchmark of each model on each node, as the contract has it."""
    database.execute(
        """
        CREATE TABLE benchmarks (
            node_id TEXT NOT NULL,
            model TEXT NOT NULL,
            quantization TEXT NOT NULL,
            measured REAL NOT NULL,
            benchmark BLOB NOT NULL,
            PRIMARY KEY (node_id, model, quantization)
        )"""
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_chats_and_messages,
    m002_full_text_search,
    m003_branches,
    m004_shelves_and_presets,
    m005_text_indexed_once,
    m006_answers_that_move,
    m007_speeds,
    m008_benchmarks,
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
