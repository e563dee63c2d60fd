"""One SQLite file and the thread that it is used on.

Consistency: a call that returned is on disk as far as the operating system is told (WAL,
synchronous=NORMAL: a killed process loses nothing, a power cut at most the last moments, and never
damages the file). Calls take effect in the order in which they were made, one at a time, on a
thread of their own, so the event loop never waits for the disk. A reader sees every earlier write.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from potluck_proto.errors import StoreError
from potluck_scheduler.migrations import migrate

Result = TypeVar("Result")

BUSY_SECONDS = 5.0
"""How long to wait for another process that holds the file: less than a viewer waits for a call."""


class Database:
    """The chat store's file. Every method raises `StoreError` where the disk fails.

    Args:
        path: Made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chat-store")

    async def open(self) -> None:
        """Open the file and bring it up to date."""
        await self.run(self._open)

    async def close(self) -> None:
        """Close the file after all calls under way."""
        await self.run(lambda: self._connection.close())
        self._thread.shutdown()

    def _open(self) -> None:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        self._connection = connection
        try:
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")
            migrate(connection)
        except BaseException:
            connection.close()
            raise

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do work on the file's thread, and say in words how the disk failed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The chat store {self._path} cannot be used ({error}). Check the disk's space and "
                "the file's owner; if the file is damaged, move it away and a new one is made."
            ) from error

    async def transaction(self, work: Callable[[], Result]) -> Result:
        """Do all of the work or nothing."""

        def run() -> Result:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work()
            except BaseException:
                # Some failures, such as a full disk, have rolled back by themselves.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            return result

        return await self.run(run)

    # --- For work on the file's thread -----------------------------------------------------------

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement."""
        return self._connection.execute(statement, values)

    def row(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
        """Return the first row of a query."""
        row: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
        return row

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._connection.execute(statement, values).fetchall()

    def value(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Return the one value of a query that always has one row."""
        return self._connection.execute(statement, values).fetchone()[0]
