"""One engine child: started, spoken to, watched, and always buried.

Whatever happens to the child, each request that it had ends with exactly one `Finished`: where the
child dies, hangs or breaks the contract of `engines/base.py`, with the reason `failed` and its last
log lines. One task sees a child from its start to its end, so that nothing that is cancelled
meanwhile leaves a part of it behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from potluck_proto.errors import EngineDied, PotluckError, Stalled
from potluck_proto.plain import plain
from potluck_worker import autopsy
from potluck_worker.engine_log import OURS, EngineLog
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
from potluck_worker.installed import OWN, Interpreter
from potluck_worker.process import ChildProcess

log = logging.getLogger(__name__)

COMMAND = ("-m", "potluck_worker.engine_host")
"""What a Python is given to be a child."""

STALL_SECONDS = 30.0
"""An engine that has work and makes no step for this long is taken for dead; one that said that its
steps are long, after `LONG_STEPS` of them."""

LONG_STEPS = 2

LOAD_STALL_SECONDS = 120.0
"""The same for a load that comes no further, and more for each GiB of the file."""

LOAD_STALL_SECONDS_PER_GIB = 20.0

CLOSE_SECONDS = 4.0
"""What a child gets to end by itself before it is killed."""

ENVIRONMENT = {"GOMP_SPINCOUNT": "3000"}
"""What a child gets unless the user set it: how long its threads spin at a barrier before they
sleep. Measured on two cores with a model of 135M parameters, one stream: 94 tokens/s with this or
more, 31 without spinning; beside a busy program, while two threads are still at work, 23 with this
and 3 with the library's default."""

Event = Started | Produced | Finished


class OpenRequest:
    """A request that the child works on: what came of it, and where its answer must go on.

    Args:
        request: What was asked.
    """

    def __init__(self, request: Generate | Embed) -> None:
        self.events: asyncio.Queue[Event | Embedded] = asyncio.Queue()
        self._embeds = isinstance(request, Embed)
        self._next_token: int | None = None
        self._next_offset: int | None = None

    def take(self, event: Event | Embedded) -> None:
        """Take in what the child says of it. Raises `FrameError` for what cannot come of it."""
        has_failed = isinstance(event, Finished) and event.failure is not None
        if isinstance(event, Embedded) != self._embeds and not has_failed:
            raise frames.FrameError(f"{type(event).__name__} for a request of another kind")
        if isinstance(event, Produced):
            self._go_on(event)
        self.events.put_nowait(event)

    def _go_on(self, piece: Produced) -> None:
        """Hold that pieces of an answer leave no gap, in tokens and in text."""
        if self._next_offset not in (None, piece.text_offset):
            raise frames.FrameError(
                f"text at {piece.text_offset} that goes on at {self._next_offset}"
            )
        if piece.token_ids and self._next_token not in (None, piece.first_token_index):
            raise frames.FrameError(
                f"tokens at {piece.first_token_index} that go on at {self._next_token}"
            )
        self._next_offset = piece.text_offset + len(piece.text)
        self._next_token = piece.first_token_index + len(piece.token_ids)


class EngineProcess:
    """A child process that holds one model.

    Args:
        engine: `llama`, `vllm` or `fake`.
        log_path: Where what it prints goes.
        changed: Called when the child is loaded, ends, or reports new statistics.
        interpreter: What the child runs under.

    Attributes:
        loaded: What the engine said when the model was in memory.
        stats: The engine's last report.
        load_fraction: How far the load is, 0 to 1.
        death: Why it ended, once it has or must.
    """

    def __init__(
        self,
        engine: str,
        log_path: Path,
        changed: Callable[[], None],
        *,
        interpreter: Interpreter = OWN,
    ) -> None:
        self._engine = engine
        self._interpreter = interpreter
        self._log = EngineLog(log_path)
        self._changed = changed
        self._requests: dict[RequestId, OpenRequest] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._loading: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self._life: asyncio.Task[None] | None = None
        self._child: ChildProcess | None = None
        self._size_bytes = 0
        self._look = autopsy.Look()
        self.loaded: Loaded | None = None
        self.stats = Stats(0, 0, 0.0, 0)
        self.load_fraction = 0.0
        self.death: PotluckError | None = None
        self.idle_since = time.monotonic()

    @property
    def process_id(self) -> int:
        """The child's process id; 0 before it has one."""
        return self._child.id if self._child else 0

    @property
    def requests_open(self) -> int:
        """Requests that have not ended."""
        return len(self._requests)

    async def load(self, load: Load, size_bytes: int) -> Loaded:
        """Start the child and load the model.

        Args:
            load: What to load and how.
            size_bytes: Of the file; a larger one may take longer.

        Raises:
            PotluckError: The engine refused the file, or the child died.
        """
        if self.death is not None:
            raise self.death
        self._size_bytes = size_bytes
        self._life = asyncio.create_task(self._live(load), name=f"engine of {load.path}")
        try:
            loaded = await self._loading
        except BaseException as error:
            given_up = PotluckError("The load was given up.")
            await self.close(error if isinstance(error, PotluckError) else given_up)
            raise
        self._changed()
        return loaded

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

    @contextmanager
    def _open(self, request: Generate | Embed) -> Iterator[asyncio.Queue[Event | Embedded]]:
        """Send a request; yield where its events come in. Leaving before its end cancels it."""
        opened = OpenRequest(request)
        if self.death is not None:
            opened.take(failed(request.request_id, self.death))
            yield opened.events
            return
        self._requests[request.request_id] = opened
        self._idle.clear()
        self._send(request)
        try:
            yield opened.events
        finally:
            if self._requests.get(request.request_id) is opened:
                self._end(request.request_id)
                self._send(Cancel(request.request_id))

    async def drain(self, seconds: float, reason: PotluckError) -> None:
        """Let answers end by themselves for `seconds`, then end the others for a reason."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            for request_id in list(self._requests):
                self._end(request_id, failed(request_id, reason))
                self._send(Cancel(request_id))

    async def close(self, reason: PotluckError) -> None:
        """End the child; returns when nothing is left of it.

        Args:
            reason: What whoever still waits for something from it is told.
        """
        if self.death is None:
            self.death = reason
        if self._life is None:
            return
        if self.loaded is not None:
            self._send(Close())
            await asyncio.wait([self._life], timeout=CLOSE_SECONDS)
        if self._child is not None and not self._life.done():
            self._child.kill()
        await asyncio.wait([self._life])

    def _send(self, frame: ToChild) -> None:
        if self._child is not None and not self._child.writer.is_closing():
            self._child.writer.write(frames.encode(frame))

    def _end(self, request_id: RequestId, end: Finished | Embedded | None = None) -> None:
        """Take a request off the list; whoever reads it, if anybody does, gets the end."""
        if end is not None:
            self._requests[request_id].take(end)
        del self._requests[request_id]
        if not self._requests:
            self.idle_since = time.monotonic()
            self._idle.set()

    # --- the life of the child -----------------------------------------------------------------

    async def _live(self, load: Load) -> None:
        """See the child from its start to its burial; then whoever waits learns how it ended."""
        python = self._interpreter
        command = (python.python, *COMMAND, f"--engine={self._engine}")
        environment = {**ENVIRONMENT, **os.environ, **python.environment}
        try:
            child = await ChildProcess.start(command, environment, self._log)
        except (OSError, ValueError) as error:
            self._end_everything(EngineDied(f"The engine cannot be started: {plain(error)}."))
            return
        self._child = child
        self._look = autopsy.look(child.id)
        self._log.write(f"{OURS} {self._engine} engine, process {child.id}: {load.path}")
        watching = asyncio.create_task(self._watch(child))
        garbage = ""
        try:
            if self.death is not None:
                child.kill()
            self._send(load)
            await self._take_frames(child)
        except frames.FrameError as error:
            garbage = str(error)
            child.kill()
        finally:
            watching.cancel()
            code = await child.bury()
            self._end_everything(autopsy.find(code, garbage, self._log.last, self._look))

    async def _take_frames(self, child: ChildProcess) -> None:
        """Take what comes until the pipe ends. Raises `FrameError` for what breaks the contract."""
        while (body := await frames.read(child.reader)) is not None:
            self._take(frames.decode_from_child(body))

    def _take(self, frame: FromChild) -> None:
        match frame:
            case Started() | Produced():
                if opened := self._requests.get(frame.request_id):
                    opened.take(frame)
            case Finished() | Embedded():
                if frame.request_id in self._requests:
                    self._end(frame.request_id, frame)
            case Stats():
                self.stats = frame
                self._changed()
            case Loading():
                self.load_fraction = frame.fraction
            case Loaded() | LoadFailed() if self._loading.done():
                raise frames.FrameError("a second word on its load")
            case Loaded():
                self.loaded = frame
                self._loading.set_result(frame)
            case LoadFailed():
                self._loading.set_exception(error_of(frame.failure))

    def _end_everything(self, death: PotluckError) -> None:
        """Tell whoever waits; a reason that was known before is better than what was found."""
        if self.death is None:
            log.error("%s", death.message)
            self.death = death
        self._log.write(f"{OURS} {self.death.message}")
        self._log.close()
        self.stats = Stats(0, 0, 0.0, self.stats.steps)
        if not self._loading.done():
            self._loading.set_exception(self.death)
        for request_id in list(self._requests):
            self._end(request_id, failed(request_id, self.death))
        self._changed()

    async def _watch(self, child: ChildProcess) -> None:
        """Kill a child that has work and does not get on with it.

        What counts is what it got done, whatever it says; and the looks at it, since a daemon that
        was itself suspended must not blame the child.
        """
        look_seconds = STALL_SECONDS / 10
        seen, stuck_seconds = -1.0, 0.0
        while self.death is None:
            await asyncio.sleep(look_seconds)
            self._look = autopsy.look(child.id)
            done = self.load_fraction if self.loaded is None else self.stats.steps
            working = self.loaded is None or bool(self._requests)
            stuck_seconds = stuck_seconds + look_seconds if working and done == seen else 0.0
            seen = done
            if stuck_seconds >= self._patience_seconds and self.death is None:
                self.death = self._stalled(stuck_seconds)
                log.error("%s", self.death.message)
                child.kill()

    @property
    def _patience_seconds(self) -> float:
        if self.loaded is not None:
            return max(STALL_SECONDS, LONG_STEPS * self.loaded.longest_step_seconds)
        return LOAD_STALL_SECONDS + LOAD_STALL_SECONDS_PER_GIB * self._size_bytes / 2**30

    def _stalled(self, seconds: float) -> Stalled:
        if self.loaded is not None:
            return Stalled(
                f"The engine made no progress for {seconds:.0f} seconds and was stopped. Ask "
                "again; it starts afresh."
            )
        return Stalled(
            f"The load of {self._size_bytes / 2**30:.1f} GiB stood at {self.load_fraction:.0%} for "
            f"{seconds:.0f} seconds and was given up. Is the disk very slow, or memory short? Ask "
            "again to try once more."
        )
