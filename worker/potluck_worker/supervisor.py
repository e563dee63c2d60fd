"""One engine child: started, spoken to, watched, and always reaped.

Whatever happens to the child, each request that it had ends with exactly one `Finished`: if the
child dies, hangs or writes garbage, with the reason `failed` and its last log lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from potluck_proto.errors import EngineDied, PotluckError, Stalled
from potluck_worker.engines import frames
from potluck_worker.engines.base import (
    Cancel,
    Close,
    Embed,
    Embedded,
    Finished,
    FromChild,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Produced,
    RequestId,
    Started,
    Stats,
    ToChild,
    error_of,
    failed,
)

log = logging.getLogger(__name__)

STALL_SECONDS = 30.0
"""An engine that has work and says nothing for this long is taken for dead."""

CLOSE_SECONDS = 2.0
"""What a child gets to end by itself before it is killed."""

LOG_LIMIT_BYTES = 2**20
LOG_LINES_SHOWN = 3

ENVIRONMENT = {"GOMP_SPINCOUNT": "3000"}
"""What a child gets unless the user set it: how long its threads spin at a barrier before they
sleep. Measured on two cores with a model of 135M parameters, one stream: 94 tokens/s with this or
more, 31 without spinning; beside a busy program, while two threads are still at work, 23 with this
and 3 with the library's default."""

Event = Started | Produced | Finished


class EngineProcess:
    """A child process that holds one model.

    Args:
        engine: `llama` or `fake`.
        log_path: Where its output goes; started afresh when it has grown long.
        changed: Called when the child is loaded, ends, or reports new statistics.

    Attributes:
        loaded: What the engine said when the model was in memory.
        stats: The engine's last report.
        load_fraction: How far the load is, 0 to 1.
        death: Why it ended, once it has.
    """

    def __init__(self, engine: str, log_path: Path, changed: Callable[[], None]) -> None:
        self._engine = engine
        self._log_path = log_path
        self._changed = changed
        self._requests: dict[RequestId, asyncio.Queue[Event | Embedded]] = {}
        self._loading: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self._heard = time.monotonic()
        self._closing = False
        self._listening: asyncio.Task[None] | None = None
        self._process_id = 0
        self.loaded: Loaded | None = None
        self.stats = Stats(0, 0, 0.0, 0)
        self.load_fraction = 0.0
        self.death: PotluckError | None = None
        self.idle_since = time.monotonic()

    @property
    def process_id(self) -> int:
        """The child's process id; 0 before it has one."""
        return self._process_id

    @property
    def requests_open(self) -> int:
        """Requests that have not ended."""
        return len(self._requests)

    async def load(self, load: Load) -> Loaded:
        """Start the child and load the model.

        Raises:
            PotluckError: The engine refused the file, or the child died.
        """
        await self._start()
        self._send(load)
        try:
            self.loaded = await self._loading
        except BaseException:
            await self.close()
            raise
        self._changed()
        return self.loaded

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        if self._log_path.exists() and self._log_path.stat().st_size > LOG_LIMIT_BYTES:
            self._log_path.unlink()
        with theirs, self._log_path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "potluck_worker.engine_host",
                f"--fd={theirs.fileno()}",
                f"--engine={self._engine}",
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT | os.environ,
                start_new_session=True,
            )
        self._process_id = self._process.pid
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._listening = asyncio.create_task(self._listen(), name=f"engine {self.process_id}")

    async def generate(self, request: Generate) -> AsyncIterator[Event]:
        """Yield what comes of a request; the last is its `Finished`.

        Leaving the iteration early cancels the request in the engine.
        """
        with self._open(request) as events:
            while True:
                event = await events.get()
                # What came while the reader was busy goes out as one: it costs once and not often.
                while isinstance(event, Produced) and not events.empty():
                    following = events.get_nowait()
                    if isinstance(following, Produced):
                        event = event.joined(following)
                    else:
                        yield event
                        event = following
                assert not isinstance(event, Embedded)
                yield event
                if isinstance(event, Finished):
                    return

    async def embed(self, request: Embed) -> Embedded:
        """Return the embeddings of a request; being cancelled cancels it in the engine.

        Raises:
            PotluckError: An input cannot be embedded, or the child died.
        """
        with self._open(request) as events:
            event = await events.get()
        if isinstance(event, Embedded):
            return event
        assert isinstance(event, Finished)
        assert event.failure is not None
        raise error_of(event.failure)

    @contextlib.contextmanager
    def _open(self, request: Generate | Embed) -> Iterator[asyncio.Queue[Event | Embedded]]:
        """Send a request; yield where its events come in. Leaving before its end cancels it."""
        events: asyncio.Queue[Event | Embedded] = asyncio.Queue()
        if self.death is not None:
            events.put_nowait(failed(request.request_id, self.death))
            yield events
            return
        self._requests[request.request_id] = events
        if len(self._requests) == 1:
            self._heard = time.monotonic()
        self._send(request)
        try:
            yield events
        finally:
            if self._requests.pop(request.request_id, None) is not None and self.death is None:
                self._send(Cancel(request.request_id))
            self.idle_since = time.monotonic()

    async def close(self) -> None:
        """End the child; returns when it is gone."""
        self._closing = True
        if self._listening is None:
            return
        self._send(Close())
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._kill()
        await self._listening

    def log_lines(self, count: int) -> list[str]:
        """Return the last lines of the child's log."""
        try:
            with self._log_path.open(errors="replace") as file:
                return [line.rstrip("\n") for line in deque(file, maxlen=count)]
        except OSError:
            return []

    def _send(self, frame: ToChild) -> None:
        if not self._writer.is_closing():
            self._writer.write(frames.encode(frame))

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _listen(self) -> None:
        """Take frames until the pipe ends, then say how the child ended and let go of it."""
        garbage = ""
        watching = asyncio.create_task(self._watch_progress())
        try:
            while (body := await frames.read(self._reader)) is not None:
                self._heard = time.monotonic()
                self._take(frames.decode_from_child(body))
        except frames.FrameError as error:
            garbage = f" It wrote {error}."
            self._kill()
        watching.cancel()
        code = await self._process.wait()
        if self.death is None:
            self.death = self._describe_death(code, garbage)
        self._end_everything(self.death)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def _take(self, frame: FromChild) -> None:
        match frame:
            case Started() | Produced():
                if queue := self._requests.get(frame.request_id):
                    queue.put_nowait(frame)
            case Finished() | Embedded():
                if queue := self._requests.pop(frame.request_id, None):
                    queue.put_nowait(frame)
            case Stats():
                self.stats = frame
                self._changed()
            case Loading():
                self.load_fraction = frame.fraction
            case Loaded():
                self._loading.set_result(frame)
            case LoadFailed():
                self._loading.set_exception(error_of(frame.failure))

    def _end_everything(self, death: PotluckError) -> None:
        if not self._closing:
            log.error("%s", death.message)
        self.stats = Stats(0, 0, 0.0, self.stats.steps)
        if not self._loading.done():
            self._loading.set_exception(death)
        for request_id, queue in list(self._requests.items()):
            queue.put_nowait(failed(request_id, death))
        self._requests.clear()
        self._changed()

    async def _watch_progress(self) -> None:
        """Kill a child that has work and does not get on with it."""
        while True:
            await asyncio.sleep(STALL_SECONDS / 10)
            silent_seconds = time.monotonic() - self._heard
            if self._requests and silent_seconds > STALL_SECONDS:
                self.death = Stalled(
                    f"The engine made no progress for {silent_seconds:.0f} seconds and was "
                    "stopped. Ask again; it starts afresh."
                )
                self._kill()
                return

    def _describe_death(self, code: int, garbage: str) -> EngineDied:
        if code >= 0:
            how = f"ended with exit code {code}"
        else:
            name = signal.Signals(-code).name
            how = {
                "SIGKILL": "was killed (SIGKILL), perhaps because memory ran out",
                "SIGABRT": "aborted (SIGABRT)",
                "SIGSEGV": "crashed (SIGSEGV)",
            }.get(name, f"ended by {name}")
        lines = [line for line in self.log_lines(20) if line.strip(" .")][-LOG_LINES_SHOWN:]
        words = "" if code == -signal.SIGKILL else " | ".join(lines)[:400]
        said = f" Its last words: {words}" if words else ""
        return EngineDied(
            f"The engine {how}.{garbage} Ask again; it starts afresh.{said}", exit_code=code
        )
