"""What was learned of the nodes' speeds, on disk, so that a new scheduler knows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import ModelKey
from potluck_scheduler.core.speeds import PAIRS_KEPT, Pair, Speed
from potluck_scheduler.database import Database

COLUMNS = tuple(field.name for field in dataclasses.fields(Speed))


class SpeedStore:
    """Speeds of models on nodes. Every method raises `StoreError` where the disk fails.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> dict[Pair, Speed]:
        """Return what was learned, what was learned last at the end."""

        def work() -> dict[Pair, Speed]:
            rows = self._database.rows("SELECT * FROM speeds ORDER BY rowid")
            return {
                (NodeId(row["node_id"]), ModelKey(row["model"], row["quantization"])): Speed(
                    **{name: row[name] for name in COLUMNS}
                )
                for row in rows
            }

        return await self._database.run(work)

    async def save(self, speeds: Mapping[Pair, Speed]) -> None:
        """Store what was learned; what was learned longest ago goes where there is too much."""
        if not speeds:
            return
        columns = ("node_id", "model", "quantization", *COLUMNS)
        statement = (
            f"INSERT OR REPLACE INTO speeds ({', '.join(columns)})"
            f" VALUES ({', '.join('?' * len(columns))})"
        )

        def work() -> None:
            for (node_id, key), speed in speeds.items():
                values = (getattr(speed, name) for name in COLUMNS)
                self._database.execute(statement, (node_id, key.name, key.quantization, *values))
            self._database.execute(
                "DELETE FROM speeds WHERE rowid NOT IN"
                " (SELECT rowid FROM speeds ORDER BY rowid DESC LIMIT ?)",
                (PAIRS_KEPT,),
            )

        await self._database.transaction(work)
