"""What the scheduler costs between a viewer and a worker; a part of `make bench`.

The worker is a bare gRPC server that paces tokens (`paced_worker.py`), since a real one would be
what is measured. It, the scheduler and the viewers are three processes on this machine's cores; so
the processor time of the scheduler stands beside what came through.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import psutil

from bench.serving import HERE, process
from potluck_proto import network
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_proto.v1 import worker_pb2_grpc as worker_grpc

ASKED = 60
"""Questions for one figure of a single stream."""

STREAM_TOKENS = 60
SHORT_TOKENS = 8
SHORT_AT_ONCE = 64
SHORT_SECONDS = 4.0
MANY_STREAMS = 200
MANY_SECONDS = 5.0

SCHEDULER = (sys.executable, "-m", "potluck_scheduler")

Ask = Callable[[str, int], Awaitable[tuple[float, int]]]
"""Asks a model for so many tokens; returns the seconds to the first and how many came."""


class Viewer:
    """Asks the scheduler, or the worker without it."""

    def __init__(self, scheduler: str, worker_address: str) -> None:
        self._channels = [network.dial(scheduler), network.dial(worker_address)]
        self._scheduler = pb_grpc.SchedulerServiceStub(self._channels[0])
        self._worker = worker_grpc.WorkerServiceStub(self._channels[1])
        self._count = itertools.count()

    async def through(self, model: str, tokens: int) -> tuple[float, int]:
        """Ask through the scheduler."""
        started, first, characters = time.perf_counter(), 0.0, 0
        sampling = types.Sampling(max_tokens=tokens)
        request = pb.SubmitRequest(content="Hello", model=model, sampling=sampling)
        async for response in self._scheduler.Ask(pb.AskRequest(submit=request)):
            for event in response.events:
                if event.HasField("delta"):
                    first = first or time.perf_counter() - started
                    characters += len(event.delta.text)
                elif event.HasField("end"):
                    assert event.end.reason == types.END_REASON_MAX_TOKENS, event.end
        return first, characters // 5

    async def directly(self, model: str, tokens: int) -> tuple[float, int]:
        """Ask the worker."""
        started, first, came = time.perf_counter(), 0.0, 0
        request = worker.GenerateRequest(
            generation_id=str(next(self._count)),
            model=model,
            messages=[types.Message(role=types.ROLE_USER, content="Hello")],
            sampling=types.Sampling(max_tokens=tokens),
        )
        async for response in self._worker.Generate(request):
            if response.HasField("delta"):
                first = first or time.perf_counter() - started
                came += len(response.delta.token_ids)
        return first, came

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()


@contextlib.asynccontextmanager
async def relay(
    folder: Path, command: Sequence[str] = SCHEDULER
) -> AsyncIterator[tuple[Viewer, psutil.Process]]:
    """Run a paced worker and a scheduler; yield a viewer and the scheduler's process."""
    home = Home(folder)
    home.prepare()
    socket = folder / "w.sock"
    paced = [sys.executable, str(HERE / "paced_worker.py"), str(socket)]
    settings = {
        "POTLUCK_HOME": str(folder),
        "POTLUCK_SCHEDULER_WORKERS": f'["{network.unix_address(socket)}"]',
    }
    with (
        process(paced, {}, lambda line: line.startswith("unix:")) as (address, _),
        process([*command], settings, lambda line: line.startswith("ready")) as (_, scheduler),
    ):
        viewer = Viewer(network.unix_address(home.scheduler_socket), address.strip())
        await viewer.through("flat", 1)
        yield viewer, psutil.Process(scheduler.pid)
        await viewer.close()


async def first_tokens(ask: Ask, at_once: int, asked: int) -> list[float]:
    """Return milliseconds to the first token, with so many paced streams at once."""
    found: list[float] = []

    async def stream(number: int) -> None:
        await asyncio.sleep(number / at_once)  # they do not begin together
        for _ in range(max(1, asked // at_once)):
            seconds, came = await ask("paced-50", STREAM_TOKENS if at_once > 1 else 2)
            assert came
            found.append(1000 * seconds)

    await asyncio.gather(*(stream(number) for number in range(at_once)))
    return found


async def measure_first_token(viewer: Viewer, at_once: int) -> None:
    """Print the time to the first token through the scheduler, and without it."""
    through, directly = [], []
    for _ in range(3):
        through += await first_tokens(viewer.through, at_once, max(ASKED, 2 * at_once))
        directly += await first_tokens(viewer.directly, at_once, max(ASKED, 2 * at_once))
    name = f"first token, {at_once} paced streams: scheduler | worker"
    for share in (50, 99):
        ours, beside = (percentile(values, share) for values in (through, directly))
        print(
            f"{f'{name}, p{share}':<62} {ours:>9.2f} {beside:>9.2f} ms       +{ours - beside:.2f}"
        )


async def measure_many(viewer: Viewer, scheduler: psutil.Process, rate: int) -> None:
    """Print what comes through with many streams, and what a token costs the scheduler."""
    tokens = int(rate * MANY_SECONDS)
    before, started = cpu_seconds(scheduler), time.perf_counter()
    came = await asyncio.gather(
        *(viewer.through(f"paced-{rate}", tokens) for _ in range(MANY_STREAMS))
    )
    seconds = time.perf_counter() - started
    cost = cpu_seconds(scheduler) - before
    total = sum(count for _, count in came)
    assert total == tokens * MANY_STREAMS
    name = f"{MANY_STREAMS} streams of {rate} tokens/s: tokens/s | offered"
    cpu = f"{1e6 * cost / total:.1f} us of CPU a token, {cost / seconds:.0%} of a core"
    print(f"{name:<62} {total / seconds:>9.0f} {MANY_STREAMS * rate:>9} {cpu}")


async def measure_short(viewer: Viewer, scheduler: psutil.Process) -> None:
    """Print how many short requests come through each second."""

    async def rate(ask: Ask) -> float:
        done, until = 0, time.perf_counter() + SHORT_SECONDS

        async def person() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await ask("flat", SHORT_TOKENS)
                done += 1

        started = time.perf_counter()
        await asyncio.gather(*(person() for _ in range(SHORT_AT_ONCE)))
        return done / (time.perf_counter() - started)

    directly = await rate(viewer.directly)
    before, started = cpu_seconds(scheduler), time.perf_counter()
    through = await rate(viewer.through)
    cost = (cpu_seconds(scheduler) - before) / (through * (time.perf_counter() - started))
    name = f"requests of {SHORT_TOKENS} tokens a second: scheduler | worker"
    print(f"{name:<62} {through:>9.0f} {directly:>9.0f} {1e6 * cost:.0f} us of CPU a request")


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has taken."""
    times = process.cpu_times()
    return times.user + times.system


def percentile(values: list[float], share: int) -> float:
    """Return the value below which so many percent are."""
    return statistics.quantiles(values, n=100)[share - 1]


async def main() -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        async with relay(Path(folder)) as (viewer, scheduler):
            for at_once in (1, 50):
                await measure_first_token(viewer, at_once)
            await measure_short(viewer, scheduler)
            for rate in (50, 100, 200, 400):
                await measure_many(viewer, scheduler, rate)


if __name__ == "__main__":
    asyncio.run(main())
