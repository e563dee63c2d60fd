"""Many answers over one stream: what is ready together goes out in one message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from potluck_proto.errors import PotluckError
from potluck_proto.v1 import worker_pb2 as pb

log = logging.getLogger(__name__)

Answers = Callable[[pb.GenerateRequest], AsyncIterator[pb.GenerateResponse]]
"""Yields what comes of a request; raises `PotluckError` for what fails before its engine has it."""


class WorkStream:
    """The jobs of one scheduler.

    Args:
        answers: Writes an answer.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._jobs: dict[int, asyncio.Task[None]] = {}
        self._outbox: list[pb.JobEvent] = []
        self._filled = asyncio.Event()

    async def run(self, requests: AsyncIterator[pb.WorkRequest]) -> AsyncIterator[pb.WorkResponse]:
        """Do what is asked until nobody asks any more; yield what comes of it.

        Raises what the requests raise, such as `BadRequest` for one that cannot be read.
        """
        reading = asyncio.create_task(self._read(requests))
        try:
            while not reading.done() or self._outbox:
                await self._filled.wait()
                self._filled.clear()
                events, self._outbox = self._outbox, []
                if events:
                    yield pb.WorkResponse(events=events)
            await reading
        finally:
            for task in (reading, *self._jobs.values()):
                task.cancel()
            await asyncio.gather(reading, *self._jobs.values(), return_exceptions=True)

    async def _read(self, requests: AsyncIterator[pb.WorkRequest]) -> None:
        try:
            async for request in requests:
                for job in request.start:
                    task = asyncio.create_task(self._do(job), name=f"job {job.number}")
                    self._jobs[job.number] = task
                for number in request.cancel:
                    if number in self._jobs:
                        self._jobs[number].cancel()
        finally:
            self._filled.set()

    async def _do(self, job: pb.Job) -> None:
        """Write an answer; its last event says how it ended."""
        try:
            async for response in self._answers(job.request):
                self._put(pb.JobEvent(number=job.number, response=response))
        except PotluckError as error:
            self._put(pb.JobEvent(number=job.number, failure=error.to_proto()))
        except Exception as error:
            log.exception("job %s failed", job.number)
            failure = PotluckError(f"The worker failed: {type(error).__name__}: {error}.")
            self._put(pb.JobEvent(number=job.number, failure=failure.to_proto()))
        finally:
            del self._jobs[job.number]

    def _put(self, event: pb.JobEvent) -> None:
        self._outbox.append(event)
        self._filled.set()
