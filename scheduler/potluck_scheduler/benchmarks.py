"""What was measured of models on nodes, on disk and at hand."""

from __future__ import annotations

from collections.abc import Iterable

from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.core.model import ModelKey
from potluck_scheduler.database import Database

KEPT = 1_000
"""Pairs of node and model on disk, at most: the oldest go first."""


class Benchmarks:
    """The last benchmark of each model on each node.

    Consistency: one that `keep` returned from is on disk, and is what `of` returns.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[ModelKey, dict[NodeId, pb.Benchmark]] = {}

    async def load(self) -> None:
        """Read what is on disk. Raises `StoreError`."""
        query = "SELECT benchmark FROM benchmarks"
        found = await self._database.run(lambda: self._database.rows(query))
        for row in found:
            self._note(pb.Benchmark.FromString(row["benchmark"]))

    def of(self, key: ModelKey) -> Iterable[pb.Benchmark]:
        """Return what was measured of a model, each node once."""
        return self._known.get(key, {}).values()

    def on(self, node_id: NodeId, key: ModelKey) -> pb.Benchmark | None:
        """Return what was measured of a model on one node."""
        return self._known.get(key, {}).get(node_id)

    async def keep(self, benchmark: pb.Benchmark) -> None:
        """Store a benchmark in the place of the one before. Raises `StoreError`."""

        def work() -> None:
            self._database.execute(
                "INSERT OR REPLACE INTO benchmarks VALUES (?, ?, ?, ?, ?)",
                (
                    benchmark.node_id,
                    benchmark.model,
                    benchmark.quantization,
                    benchmark.measured_unix_seconds,
                    benchmark.SerializeToString(),
                ),
            )
            self._database.execute(
                "DELETE FROM benchmarks WHERE rowid NOT IN"
                " (SELECT rowid FROM benchmarks ORDER BY measured DESC LIMIT ?)",
                (KEPT,),
            )

        await self._database.transaction(work)
        self._note(benchmark)

    def _note(self, benchmark: pb.Benchmark) -> None:
        key = ModelKey(benchmark.model, benchmark.quantization)
        self._known.setdefault(key, {})[NodeId(benchmark.node_id)] = benchmark
