"""`make bench`: what Potluck costs, beside something that does the same, in one run.

Both sides of a row take turns, five times each; the row shows medians and their ratio. The machine
is shared and noisy: compare ratios, not absolute figures, and only within one run.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import psutil
from llama_cpp import llama_cpp as api

from potluck_proto import network
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.daemon import WorkerDaemon
from potluck_worker.engines.base import ChatMessage, Load
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.llama.prompt import conversation_of
from potluck_worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
POTLUCK = Path(sys.executable).parent / "potluck"
STARTER = ROOT / "worker/potluck_worker/models/potluck-starter-Q8_0.gguf"
LONG = "Write me a long story about a house full of computers."
REPEATS = 5
CONTEXT_LENGTH = 1024


def row(name: str, ours: list[float], theirs: list[float], unit: str) -> None:
    """Print medians and their ratio."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"{name:<62} {mine:>9.1f} {other:>9.1f} {unit:<8} {mine / other:>5.2f}", flush=True)


def seconds(*command: str | Path, **environment: str) -> float:
    """Return how long a command takes."""
    started = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ | environment,
    )
    return time.perf_counter() - started


def measure_start() -> None:
    """How long the command takes to say anything, beside a Python that says nothing."""
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(1000 * seconds(POTLUCK, "--help"))
        theirs.append(1000 * seconds(sys.executable, "-c", "pass"))
    row("potluck --help | python -c pass", ours, theirs, "ms")


def measure_ask(home: Path) -> None:
    """How long a whole question takes when all runs already, beside `--help` alone."""
    environment = {"POTLUCK_HOME": str(home)}
    seconds(POTLUCK, "ask", "Hi", **environment)
    ours, theirs, first = [], [], []
    for _ in range(REPEATS):
        ours.append(1000 * seconds(POTLUCK, "ask", "Hi", **environment))
        theirs.append(1000 * seconds(POTLUCK, "--help"))
    row("potluck ask, warm | potluck --help", ours, theirs, "ms")
    for _ in range(REPEATS):
        seconds(POTLUCK, "down", **environment)
        first.append(1000 * seconds(POTLUCK, "ask", "Hi", **environment))
    row("potluck ask, nothing running | warm", first, ours, "ms")
    seconds(POTLUCK, "down", **environment)


class PlainLoop:
    """llama.cpp's own loop in this process: one sequence, no server, no text."""

    def __init__(self) -> None:
        self._engine = LlamaEngine()
        self._engine.load(Load(str(STARTER), CONTEXT_LENGTH, 1))
        conversation = conversation_of([ChatMessage("user", LONG)])
        rendered = self._engine._template.render(conversation)
        self._prompt = self._engine._vocabulary.tokenize(rendered, special=True, start=True)

    def tokens_per_second(self) -> float:
        """Return the speed of one greedy answer."""
        context = self._engine._context
        api.llama_memory_clear(api.llama_get_memory(context), True)
        sampler = api.llama_sampler_init_greedy()
        pending, count, started = self._prompt, 0, 0.0
        while True:
            tokens = (api.llama_token * len(pending))(*pending)
            api.llama_decode(context, api.llama_batch_get_one(tokens, len(pending)))
            token = int(api.llama_sampler_sample(sampler, context, -1))
            started = started or time.perf_counter()
            if self._engine._vocabulary.ends(token):
                break
            pending, count = [token], count + 1
        api.llama_sampler_free(sampler)
        return count / (time.perf_counter() - started)


async def measure_speed(home: Home) -> None:
    """Tokens per second through worker, pipe and gRPC, beside the plain loop."""
    home.prepare()
    loop = PlainLoop()
    daemon = WorkerDaemon(home, WorkerSettings(context_length=CONTEXT_LENGTH))
    await daemon.start()
    async with network.dial(daemon.addresses[0]) as channel:
        stub = pb_grpc.WorkerServiceStub(channel)

        async def answer(number: int) -> int:
            request = pb.GenerateRequest(
                generation_id=str(number),
                model="potluck-starter",
                messages=[types.Message(role=types.ROLE_USER, content=LONG)],
            )
            return sum([len(r.delta.token_ids) async for r in stub.Generate(request)])

        async def streams(count: int) -> float:
            started = time.perf_counter()
            tokens = sum(await asyncio.gather(*map(answer, range(count))))
            return tokens / (time.perf_counter() - started)

        await answer(0)
        for count in (1, 4):
            ours, theirs = await interleaved(partial(streams, count), loop.tokens_per_second)
            name = f"{count} stream(s) through the worker | plain llama.cpp loop, 1"
            row(name, ours, theirs, "tokens/s")
        resident = psutil.Process().memory_info().rss / 2**20
        print(f"{'memory of this process: daemon, loop, model':<62} {resident:>9.1f} MiB")
    await daemon.stop()


async def interleaved(
    ours: Callable[[], Awaitable[float]], theirs: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Return figures of both sides, measured in turns."""
    left, right = [], []
    for _ in range(REPEATS):
        left.append(await ours())
        right.append(await asyncio.to_thread(theirs))
    return left, right


def main() -> None:
    """Print the table."""
    print(f"{'ours | beside it':<62} {'ours':>9} {'beside':>9} {'':<8} ratio")
    measure_start()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        measure_ask(Path(folder) / "a")
        asyncio.run(measure_speed(Home(Path(folder) / "b")))
    subprocess.run(
        [sys.executable, ROOT / "tests/tui/measure_bytes.py"],
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
    )


if __name__ == "__main__":
    main()
