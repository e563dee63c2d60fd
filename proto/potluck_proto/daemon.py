"""What both daemons do alike: one instance a home, a log file, an end on a signal or when idle."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, TypedDict

from potluck_proto import __version__
from potluck_proto.errors import HomeError, PotluckError
from potluck_proto.home import Home

log = logging.getLogger(__name__)

IDLE_CHECK_SECONDS = 5.0


class InstanceInfo(TypedDict):
    """What a running daemon writes into its lock file."""

    process_id: int
    version: str
    started_unix_seconds: float


def lock_file(home: Home, name: str) -> Path:
    """Return the lock file of the daemon `name` (`worker` or `scheduler`)."""
    return home.scheduler_socket.parent / f"{name}.lock"


@contextmanager
def single_instance(home: Home, name: str) -> Iterator[None]:
    """Hold the daemon's lock; the kernel frees it however the process ends.

    Whoever ends in order empties the file (see `died`). Raises `HomeError` where another process
    holds the lock.
    """
    path = lock_file(home, name)
    with path.open("a+") as file:
        while not _locked(file, fcntl.LOCK_EX):
            # Whoever only looks whether one runs has the lock for a moment too, and says nothing.
            if running := running_instance(home, name):
                raise HomeError(
                    f"A {name} runs already for {home.root} (process {running['process_id']}). "
                    "Stop it with `potluck down`, or set POTLUCK_HOME for a second pool."
                )
        info: InstanceInfo = {
            "process_id": os.getpid(),
            "version": __version__,
            "started_unix_seconds": time.time(),
        }
        file.truncate(0)
        file.write(json.dumps(info))
        file.flush()
        try:
            yield
        except PotluckError:
            file.truncate(0)
            raise
        file.truncate(0)


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def running_instance(home: Home, name: str) -> InstanceInfo | None:
    """Return what the running daemon wrote, or `None` where none runs."""
    try:
        with lock_file(home, name).open() as file:
            # Shared, so that two who look do not take each other for the daemon.
            if not _locked(file, fcntl.LOCK_SH):
                info: InstanceInfo | None = json.loads(file.read() or "null")
                return info
    except FileNotFoundError:
        pass
    return None


def died(home: Home, name: str) -> bool:
    """Say whether the last daemon was killed, or crashed: it left its words in a free lock."""
    try:
        return bool(lock_file(home, name).read_text()) and running_instance(home, name) is None
    except FileNotFoundError:
        return False


def forget_death(home: Home, name: str) -> None:
    """Have a daemon that was killed on purpose count as one that ended in order."""
    lock_file(home, name).write_text("")


def configure_logging(home: Home, name: str) -> None:
    """Log to `logs/<name>.log` (2 files of 4 MiB), and to a terminal where there is one.

    Prompts and answers are never logged.
    """
    handlers: list[logging.Handler] = [
        RotatingFileHandler(home.logs / f"{name}.log", maxBytes=4 * 2**20, backupCount=1)
    ]
    if sys.stderr.isatty():
        handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=handlers,
        force=True,
    )


def run(name: str, serve: Callable[[Home], Coroutine[None, None, None]]) -> int:
    """Run a daemon to its end; return 0, or 1 with one sentence on stderr.

    Args:
        name: `worker` or `scheduler`.
        serve: Reads the settings and serves; may raise `PotluckError`.
    """
    home = Home.default()
    try:
        home.prepare()
        with single_instance(home, name):
            configure_logging(home, name)
            asyncio.run(serve(home))
    except PotluckError as error:
        print(f"potluck-{name}: {error.message}", file=sys.stderr)
        return 1
    return 0


class Background:
    """Work that goes on for as long as a daemon does. What fails is logged; the rest goes on."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, work: Coroutine[None, None, None]) -> None:
        """Begin some work."""
        task = asyncio.create_task(work)
        task.add_done_callback(_log_failure)
        self._tasks.append(task)

    async def close(self) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a part of this daemon failed, and is not done any more", exc_info=error)


async def until_stopped_or_idle(in_use: Callable[[], bool], idle_exit_seconds: float) -> None:
    """Return on a signal, or when nothing was in use for `idle_exit_seconds`; 0 is never."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    used = time.monotonic()
    while not stop.is_set():
        if in_use():
            used = time.monotonic()
        if idle_exit_seconds and time.monotonic() - used > idle_exit_seconds:
            log.info("nobody used this daemon for %.0f seconds", idle_exit_seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(IDLE_CHECK_SECONDS, idle_exit_seconds or 60.0)):
                await stop.wait()
