"""Carries out the session's instructions at the scheduler, and posts what comes of them.

Every instruction runs in a task of its own, so nothing here makes the screen wait. Tasks post
events and touch nothing else. An answer is followed by one task at most.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from potluck_proto.errors import OffsetNotReached, PotluckError, RequestError, UnknownNode
from potluck_proto.ids import GenerationId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.events import (
    AnswerEnded,
    AnswerMoved,
    AnswerPlaced,
    AnswerProgress,
    AnswerText,
    ConnectionLost,
    Event,
    FollowFailed,
    LogFailed,
    LogGrew,
    LogOpened,
    PoolSeen,
    RequestFailed,
    SchedulerSilent,
)
from potluck_tui.instructions import Follow, FollowLog, PoolInstruction, Request
from potluck_tui.log_view import LogKey
from potluck_tui.pool import PoolView
from potluck_tui.requests import Requests
from potluck_tui.views import Ending, Move, progress_words, reason_words
from potluck_tui.words import label

LOG_LINES = 500
"""How many lines of a log are there to scroll back over when it is opened."""

LOG_RETRY_SECONDS = 1.0

SILENT_SECONDS = 3.0
"""A scheduler says something every 2 seconds; one that was silent for longer is said to be."""


class PoolLink:
    """The background half of the screen.

    Args:
        client: The connection.
        post: Takes an event; must not block.
        exports: The folder for chats that are written to files.
        now_unix_seconds: The clock on the wall.
    """

    def __init__(
        self,
        client: PoolClient,
        post: Callable[[Event], object],
        exports: Path,
        now_unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._post = post
        self._requests = Requests(client, exports, now_unix_seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: dict[GenerationId, asyncio.Task[None]] = {}
        self._following_log: asyncio.Task[None] | None = None
        self._heard_seconds = math.inf

    def start(self) -> None:
        """Start to watch the pool."""
        self._spawn(self._watch())
        self._spawn(self._notice_silence())

    async def close(self) -> None:
        """End all tasks and the connection. Answers go on without this viewer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def carry_out(self, instruction: PoolInstruction) -> None:
        """Start what the session asked for."""
        match instruction:
            case Follow(answers):
                self._follow_only(dict(answers))
            case FollowLog(key):
                self._follow_only_log(key)
            case _:
                self._spawn(self._request(instruction))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _request(self, request: Request) -> None:
        for event in await self._requests.carry_out(request):
            self._post(event)

    def _follow_only(self, wanted: dict[GenerationId, int]) -> None:
        """Follow some answers, each from its offset; one that is followed already goes on so."""
        for generation_id in [*self._following]:
            if generation_id not in wanted or self._following[generation_id].done():
                self._following.pop(generation_id).cancel()
        for generation_id, offset in wanted.items():
            if generation_id not in self._following:
                task = self._spawn(self._follow(generation_id, offset))
                self._following[generation_id] = task

    def _follow_only_log(self, key: LogKey | None) -> None:
        if self._following_log is not None:
            self._following_log.cancel()
        self._following_log = self._spawn(self._follow_log(key)) if key else None

    async def _watch(self) -> None:
        try:
            async for pool in self._client.watch_pool():
                if pool is None:
                    self._heard_seconds = math.inf
                    self._post(ConnectionLost())
                else:
                    self._heard_seconds = time.monotonic()
                    self._post(PoolSeen(PoolView.from_proto(pool), time.monotonic()))
        except PotluckError as error:
            self._heard_seconds = math.inf
            self._post(ConnectionLost(for_good=True))
            self._post(RequestFailed(clean(error.message)))

    async def _notice_silence(self) -> None:
        """Say each second for how long a scheduler is silent to which the connection stands."""
        while True:
            await asyncio.sleep(1.0)
            silent_seconds = time.monotonic() - self._heard_seconds
            if silent_seconds > SILENT_SECONDS:
                self._post(SchedulerSilent(silent_seconds))

    async def _follow(self, generation_id: GenerationId, from_offset: int) -> None:
        try:
            async for response in self._client.attach(generation_id, from_offset):
                # A lost connection shows in the status line, by way of `_watch`.
                if response is not None and (event := _answer_event(generation_id, response)):
                    self._post(event)
        except PotluckError as error:
            self._post(
                FollowFailed(
                    generation_id,
                    clean(error.message),
                    reload=isinstance(error, OffsetNotReached),
                )
            )

    async def _follow_log(self, key: LogKey) -> None:
        """Follow a log; where the way to it breaks, begin again until it is there."""
        request = pb.ReadLogsRequest(
            node=key.address, model=key.model, lines=LOG_LINES, follow=True
        )
        while True:
            opened = False
            try:
                async for response in self._client.read_logs(request):
                    lines = tuple(clean(line) for line in response.lines)
                    if opened:
                        self._post(LogGrew(key, lines))
                    else:
                        models = tuple(clean(model) for model in response.models)
                        self._post(LogOpened(key, models, lines))
                    opened = True
            except PotluckError as error:
                self._post(LogFailed(key, clean(error.message)))
                if isinstance(error, RequestError) and not isinstance(error, UnknownNode):
                    return
            await asyncio.sleep(LOG_RETRY_SECONDS)


def _answer_event(  # noqa: PLR0911 - a table
    generation_id: GenerationId, response: pb.AnswerEvent
) -> Event | None:
    """Take one message of an answer's stream apart; `None` for a kind of a newer protocol."""
    match response.WhichOneof("event"):
        case "head":
            head = response.head
            moves = tuple(Move.from_proto(seam) for seam in head.seams)
            return AnswerPlaced(
                generation_id, reason_words(head.explanation), clean(head.model), moves
            )
        case "progress":
            return AnswerProgress(generation_id, progress_words(response.progress))
        case "placed":
            placed = response.placed
            model = label(placed.model, placed.quantization)
            return AnswerPlaced(generation_id, reason_words(placed), model)
        case "delta":
            delta = response.delta
            return AnswerText(generation_id, delta.text_offset, delta.text, time.monotonic())
        case "seam":
            return AnswerMoved(generation_id, Move.from_proto(response.seam))
        case "end":
            return AnswerEnded(generation_id, Ending.from_proto(response.end))
        case _:
            return None
