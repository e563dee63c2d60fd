"""A chat store as large as somebody's after years: 10,000 chats of 50 messages."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from pathlib import Path

from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.migrations import migrate

CHATS = 10_000
MESSAGES = 50
VOCABULARY = 50_000

QUERIES = {
    "the commonest word": "w0",
    "two words": "w12 w340",
    "a rare word": "w49999",
    "a beginning": "w1 w49",
    "nothing": "absent",
}

ENDED = types.End(reason=types.END_REASON_END_OF_TURN).SerializeToString()


def fill(path: Path) -> None:
    """Make a store at a path. Words are as often as in a language: the n-th 1/n times as often."""
    chance = random.Random(1)
    words = [f"w{number}" for number in range(VOCABULARY)]
    weights = list(itertools.accumulate(1 / (number + 1) for number in range(VOCABULARY)))
    texts = [
        " ".join(chance.choices(words, cum_weights=weights, k=chance.choice((10, 30, 120))))
        for _ in range(20_000)
    ]
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    migrate(database)
    now = time.time()
    database.execute("BEGIN")
    for chat in range(CHATS):
        updated = now - 60.0 * (CHATS - chat)
        database.execute(
            "INSERT INTO chats (chat_id, title, model, system_prompt, created, updated, revision)"
            " VALUES (?, ?, 'm', '', ?, ?, ?)",
            (f"chat{chat}", f"Chat {chat}", updated, updated, MESSAGES),
        )
        for number in range(MESSAGES):
            name, parent = f"m{chat}-{number}", f"m{chat}-{number - 1}" if number else ""
            text = texts[(chat * 7919 + number * 104_729) % len(texts)]
            answer = number % 2 == 1
            database.execute(
                "INSERT INTO messages (message_id, chat_id, parent_message_id, chosen, role,"
                " content, created, generation_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, f"chat{chat}", parent, number + 1,
                 types.ROLE_ASSISTANT if answer else types.ROLE_USER, text, updated,
                 f"g{name}" if answer else None),
            )  # fmt: skip
    database.execute('UPDATE messages SET "end" = ? WHERE generation_id IS NOT NULL', (ENDED,))
    database.execute("COMMIT")
    database.close()
