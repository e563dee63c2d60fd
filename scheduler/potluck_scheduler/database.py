"""The scheduler's database: SQLite, in one file, on a thread of its own.

Consistency: a call that returned is on disk as far as the operating system is told (WAL,
synchronous=NORMAL: a killed process loses nothing, a power cut at most the last moments, and never
damages the file). Calls take effect in the order in which they were made, one at a time, so the
event loop never waits for the disk. A reader sees every earlier write. What waits when the disk is
ready is written together, in one transaction in which each call succeeds or fails by itself.

A file that is damaged is kept aside and a new one is begun: what it has is not lost to who can
repair it, and the pool works.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from potluck_proto.errors import StoreError
from potluck_proto.plain import plain
from potluck_scheduler.migrations import migrate

log = logging.getLogger(__name__)

Result = TypeVar("Result")

BUSY_SECONDS = 5.0
"""How long to wait for another process that holds the file: less than a viewer waits for a call."""

CHECKED_BYTES = 32 * 2**20
"""A file up to this is read through when it is opened, to see whether it is whole."""

CHECKPOINT_PAGES = 4000
"""What is written goes from the log into the file after so many pages (16 MiB). That syncs the
disk, and a question that comes just then waits for it: so not too often."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class _Call:
    """Work that waits for the thread."""

    work: Callable[[], Any]
    done: asyncio.Future[Any]
    writes: bool


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
        self._calls: deque[_Call] = deque()
        self._busy = False
        self._aside = ""
        self._failure = ""

    @property
    def problem(self) -> str:
        """What a person should know: that writing fails now, or that a file was kept aside."""
        return self._failure or self._aside

    async def open(self) -> None:
        """Open the file and bring it up to date."""
        await self._in_words(asyncio.get_running_loop().run_in_executor(self._thread, self._open))

    async def close(self) -> None:
        """Close the file after all calls under way."""
        await self.run(lambda: None)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
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
            for pragma in (
                "journal_mode = WAL",
                "synchronous = NORMAL",
                f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
                "foreign_keys = ON",
            ):
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
        """Do work that reads, on the database's thread."""
        return await self._do(work, writes=False)

    async def transaction(self, work: Callable[[], Result]) -> Result:
        """Do all of the work or nothing."""
        result = await self._do(work, writes=True)
        self._failure = ""  # a disk that takes what is written is well again
        return result

    async def _do(self, work: Callable[[], Result], *, writes: bool) -> Result:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()
        self._calls.append(_Call(work, done, writes=writes))
        if not self._busy:
            self._busy = True
            loop.run_in_executor(self._thread, self._do_calls, loop)
        return await self._in_words(done)

    async def _in_words(self, work: Awaitable[Result]) -> Result:
        """Return what comes of work, and say in words how the disk failed."""
        try:
            return await work
        except (sqlite3.Error, OSError) as error:
            self._failure = (
                f"The chat store {self._path} cannot be used ({plain(error)}). {_advice(error)}"
            )
            raise StoreError(self._failure) from error

    # --- on the thread -------------------------------------------------------------------------

    def _do_calls(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do all calls that wait, together."""
        calls = []
        while self._calls:
            calls.append(self._calls.popleft())
        try:
            outcomes = self._together(calls)
        except (sqlite3.Error, OSError) as error:
            outcomes = [error] * len(calls)
        loop.call_soon_threadsafe(self._give, loop, calls, outcomes)

    def _give(
        self, loop: asyncio.AbstractEventLoop, calls: list[_Call], outcomes: list[object]
    ) -> None:
        """Back in the loop: tell the callers, and have done what came meanwhile."""
        for call, outcome in zip(calls, outcomes, strict=True):
            if call.done.done():
                continue  # the caller is gone
            if isinstance(outcome, BaseException):
                call.done.set_exception(outcome)
            else:
                call.done.set_result(outcome)
        self._busy = bool(self._calls)
        if self._busy:
            loop.run_in_executor(self._thread, self._do_calls, loop)

    def _together(self, calls: list[_Call]) -> list[object]:
        """Return what came of each call. Raises what fails all of them."""
        if not any(call.writes for call in calls):
            return [self._alone(call) for call in calls]
        self.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._within(call) for call in calls]
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk rolls back by itself
                self.execute("ROLLBACK")
            raise
        return outcomes

    def _within(self, call: _Call) -> object:
        """Do one call of a transaction; what it wrote goes if it fails."""
        if not call.writes:
            return self._alone(call)
        self.execute("SAVEPOINT call")
        outcome = self._alone(call)
        if isinstance(outcome, sqlite3.Error) and not self._connection.in_transaction:
            raise outcome  # a full disk took the others' writes along
        if isinstance(outcome, BaseException):
            self.execute("ROLLBACK TO call")
        self.execute("RELEASE call")
        return outcome

    @staticmethod
    def _alone(call: _Call) -> object:
        try:
            return call.work()
        except Exception as error:
            return error

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

    def value(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Return the one value of a query that always has one row, likewise."""
        return self.execute(statement, values).fetchone()[0]


def _advice(error: sqlite3.Error | OSError) -> str:
    """Return what to do about a disk that fails."""
    # The lowest byte is the kind, those above it say more of it.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "Another program holds it; close what has the file open, then try again."
        case sqlite3.SQLITE_FULL:
            return "Make room on its disk, then try again."
        case _:
            return "Check the disk's space and the file's owner."


def _check(connection: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` for a file that is not whole."""
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        error = sqlite3.DatabaseError(said)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
