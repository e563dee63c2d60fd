"""The stream of work to one worker: many answers over one call, pieces of many in one message.

Consistency: what a worker says about a job comes in order, and its end comes once. When the stream
breaks, every job that has not ended fails with `NodeLost`. What concerns no job of ours is dropped.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from potluck_proto.errors import NodeLost, PotluckError, from_proto
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.calls import failures_in_words

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

log = logging.getLogger(__name__)

Take = Callable[[worker.GenerateResponse], None]
"""Takes a piece of an answer, and must not wait. May raise `PotluckError`: the job ends so."""


class Job:
    """An answer that a worker writes.

    Attributes:
        ended: Its end, or what it failed with.
    """

    def __init__(self, take: Take, drop: Callable[[], None]) -> None:
        self._drop = drop
        self.take = take
        self.ended: asyncio.Future[types.End] = asyncio.get_running_loop().create_future()

    def end(self, outcome: types.End | PotluckError) -> None:
        """Note how it ended; nothing where it has."""
        if self.ended.done():
            return
        if isinstance(outcome, types.End):
            self.ended.set_result(outcome)
        else:
            self.ended.set_exception(outcome)

    def close(self) -> None:
        """Have the worker leave it alone if it has not ended there. Call it once, at last."""
        self._drop()


class Work:
    """The jobs of one worker.

    Args:
        stub: The worker.
        name: What people call it, for errors.
    """

    def __init__(self, stub: WorkerServiceAsyncStub, name: str) -> None:
        self._stub = stub
        self._name = name
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._outbox = worker.WorkRequest()
        self._filled = asyncio.Event()
        self._lost: PotluckError | None = None

    def start(self, request: worker.GenerateRequest, take: Take) -> Job:
        """Have an answer written.

        Args:
            request: What is asked.
            take: Takes the pieces.
        """
        number = next(self._numbers)
        job = Job(take, lambda: self._drop(number))
        if self._lost is not None:
            job.end(self._lost)
        else:
            self._jobs[number] = job
            self._outbox.start.add(number=number, request=request)
            self._filled.set()
        return job

    def _drop(self, number: int) -> None:
        if self._jobs.pop(number, None) is not None:
            self._outbox.cancel.append(number)
            self._filled.set()

    async def run(self) -> None:
        """Carry jobs there and pieces back until the stream breaks; then no job is left."""
        try:
            with failures_in_words(self._name):
                async for response in self._stub.Work(self._requests()):
                    for event in response.events:
                        self._give(event)
            raise NodeLost(f"{self._name} ended the stream of its work.")
        except PotluckError as error:
            log.info("no more work from %s: %s", self._name, error.message)
        finally:
            self._lose()

    async def _requests(self) -> AsyncIterator[worker.WorkRequest]:
        while True:
            await self._filled.wait()
            self._filled.clear()
            outbox, self._outbox = self._outbox, worker.WorkRequest()
            yield outbox

    def _give(self, event: worker.JobEvent) -> None:
        """Give a piece to the job that it is for."""
        job = self._jobs.get(event.number)
        if job is None:
            return
        if event.HasField("failure"):
            del self._jobs[event.number]
            job.end(from_proto(event.failure))
            return
        try:
            job.take(event.response)
        except PotluckError as error:
            job.end(error)
        if event.response.HasField("end"):
            del self._jobs[event.number]
            job.end(event.response.end)

    def _lose(self) -> None:
        self._lost = NodeLost(f"The connection to {self._name} broke.")
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.end(self._lost)
