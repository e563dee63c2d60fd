"""The scheduler's database: SQLite, in one file, on a thread of its own.

Consistency: a call that returned is on disk as far as the operating system is told (WAL,
synchronous=NORMAL: a killed process loses nothing, a power cut at most the last moments, and never
damages the file). Calls take effect in the order in which they were made, one at a time, so the
event loop never waits for the disk. A reader sees every earlier write.

A file that is damaged is kept aside and a new one is begun: what it has is not lost to who can
repair it, and the pool works.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from potluck_proto.errors import StoreError
from potluck_scheduler.migrations import migrate

log = logging.getLogger(__name__)

Result = TypeVar("Result")

BUSY_SECONDS = 10.0
"""How long to wait for another process that holds the file."""

CHECKED_BYTES = 32 * 2**20
"""A file up to this is read through when it is opened, to see whether it is whole."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """One database file. Every method raises `StoreError` where the disk fails.

    Args:
        path: The file; made where it is missing.

    Attributes:
        problem: What is wrong with the disk or was with the file, in a sentence; else empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._aside = ""
        self._failure = ""

    @property
    def problem(self) -> str:
        """What a person should know: that writing fails now, or that a file was kept aside."""
        return self._failure or self._aside

    async def open(self) -> None:
        """Open the file and bring it up to date."""
        await self.run(self._open)

    async def close(self) -> None:
        """Close the file after all calls under way."""
        await self.run(lambda: self._connection.close())
        self._thread.shutdown()

    def _open(self) -> None:
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in DAMAGED:
                raise
            self._keep_aside(str(error))
            self._connect()

    def _connect(self) -> None:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        self._connection = connection
        try:
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")
            if self._path.stat().st_size <= CHECKED_BYTES:
                _check(connection)
            migrate(connection)
        except BaseException:
            connection.close()
            raise

    def _keep_aside(self, why: str) -> None:
        """Move a damaged file out of the way, with what SQLite wrote beside it."""
        mark = time.strftime("damaged-%Y%m%d-%H%M%S")
        aside = self._path.with_name(f"{self._path.name}.{mark}")
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        self._aside = (
            f"The chat store was damaged ({why}). It is kept as {aside}, and a new one was begun."
        )
        log.error("%s", self._aside)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do work on the database's thread, and say in words how the disk failed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            self._failure = (
                f"The chat store {self._path} cannot be used ({error}). Check the disk's space and "
                "the file's owner."
            )
            raise StoreError(self._failure) from error

    async def transaction(self, work: Callable[[], Result]) -> Result:
        """Do all of the work or nothing."""

        def run() -> Result:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk rolls back by itself
                    self._connection.execute("ROLLBACK")
                raise
            return result

        result = await self.run(run)
        self._failure = ""  # a disk that takes what is written is well again
        return result

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement; for work that `run` or `transaction` was given."""
        return self._connection.execute(statement, values)

    def row(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
        """Return the first row, likewise."""
        row: sqlite3.Row | None = self.execute(statement, values).fetchone()
        return row

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return all rows, likewise."""
        return self.execute(statement, values).fetchall()


def _check(connection: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` for a file that is not whole."""
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        error = sqlite3.DatabaseError(said)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
