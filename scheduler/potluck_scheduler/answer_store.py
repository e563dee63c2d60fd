"""Answers on disk, as they grow and end."""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from potluck_proto.ids import ChatId, GenerationId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler import rows
from potluck_scheduler.database import Database


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


class AnswerStore:
    """Answers. Every method raises `StoreError` where the disk fails.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, records: Iterable[Record]) -> None:
        """Store what answers have so far, and the ends of those that ended."""
        saved = [_row(record) for record in records]

        def work() -> None:
            for row in saved:
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

    async def answer(self, generation_id: GenerationId) -> StoredAnswer | None:
        """Return an answer."""

        def work() -> StoredAnswer | None:
            row = self._database.row(
                "SELECT * FROM messages WHERE generation_id = ?", (generation_id,)
            )
            return None if row is None else StoredAnswer(row["chat_id"], rows.message(row))

        return await self._database.run(work)


def _row(record: Record) -> tuple[object, ...]:
    explanation = record.explanation.SerializeToString() if record.explanation else None
    return (
        record.model,
        record.node_name,
        record.text,
        array.array("I", record.token_ids).tobytes(),
        record.lineage,
        pb.AnswerHead(seams=record.seams).SerializeToString(),
        explanation,
        record.generation_id,
        record.end.SerializeToString() if record.end else None,
    )
