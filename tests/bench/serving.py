"""Two servers of the same file, asked the same by one lean client: our worker, and llama-server.

Both are processes of their own. What is measured is what arrives here, token by token.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc

from potluck_proto import network
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc

UNDER_WAY = 40
HERE = Path(__file__).resolve().parent


@dataclass(slots=True)
class Timeline:
    """When the tokens of one answer came."""

    asked: float = 0.0
    times: list[float] = field(default_factory=list)
    cached_prompt_tokens: int = 0
    under_way: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it has `UNDER_WAY` tokens."""

    def add(self, count: int) -> None:
        """Note that tokens came."""
        self.times += [time.perf_counter()] * count
        if len(self.times) >= UNDER_WAY:
            self.under_way.set()

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.asked

    def gaps(self, start: float = 0.0, stop: float = float("inf")) -> list[float]:
        """Return the seconds between what came and what came next, from `start` to `stop`.

        Tokens that came together are one: what counts is how long a reader sees nothing new.
        """
        inside = sorted({at for at in self.times if start <= at <= stop})
        return [later - earlier for earlier, later in itertools.pairwise(inside)]


class Server(Protocol):
    """Something that answers."""

    async def answer(self, prompt: str, tokens: int, timeline: Timeline | None = None) -> Timeline:
        """Ask for exactly so many tokens, greedily; return when they came."""
        ...


class Worker:
    """Our worker, over gRPC."""

    def __init__(self, channel: grpc.aio.Channel, model: str) -> None:
        self._stub = pb_grpc.WorkerServiceStub(channel)
        self._model = model
        self._count = 0

    async def answer(self, prompt: str, tokens: int, timeline: Timeline | None = None) -> Timeline:
        self._count += 1
        request = pb.GenerateRequest(
            generation_id=str(self._count),
            model=self._model,
            messages=[types.Message(role=types.ROLE_USER, content=prompt)],
            sampling=types.Sampling(temperature=0, max_tokens=tokens),
        )
        line = timeline or Timeline()
        line.asked = time.perf_counter()
        async for response in self._stub.Generate(request):
            line.add(len(response.delta.token_ids))
            if response.HasField("end"):
                line.cached_prompt_tokens = response.end.usage.cached_prompt_tokens
        assert len(line.times) == tokens, f"{len(line.times)} tokens instead of {tokens}"
        return line


class LlamaServer:
    """llama-server, over HTTP with server-sent events."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)

    async def answer(self, prompt: str, tokens: int, timeline: Timeline | None = None) -> Timeline:
        body = json.dumps(
            {
                "prompt": prompt,
                "n_predict": tokens,
                "temperature": 0,
                "stream": True,
                "cache_prompt": True,
                "return_tokens": True,
            }
        ).encode()
        line = timeline or Timeline()
        line.asked = time.perf_counter()
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(
            b"POST /completion HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        async for row in reader:
            if row.startswith(b"data: {"):
                event = json.loads(row[6:])
                line.add(len(event["tokens"]))
                if event["stop"]:
                    line.cached_prompt_tokens = event["timings"].get("cache_n", 0)
        writer.close()
        await writer.wait_closed()
        assert len(line.times) == tokens, f"{len(line.times)} tokens instead of {tokens}"
        return line


@contextlib.asynccontextmanager
async def our_worker(
    model: Path, folder: Path, *, context_length: int, slots: int, threads: int | None = None
) -> AsyncIterator[Worker]:
    """Run a worker with one model."""
    home = Home(folder)
    home.prepare()
    settings = {
        "POTLUCK_HOME": str(folder),
        "POTLUCK_WORKER_MODEL_PATHS": json.dumps([str(model)]),
        "POTLUCK_WORKER_CONTEXT_LENGTH": str(context_length),
        "POTLUCK_WORKER_SLOTS": str(slots),
    }
    if threads is not None:
        settings["POTLUCK_WORKER_THREADS"] = str(threads)
    with process(
        [sys.executable, "-m", "potluck_worker"], settings, lambda line: line.startswith("ready")
    ):
        async with network.dial(network.unix_address(home.worker_socket)) as channel:
            yield Worker(channel, model.name.split(".")[0].removesuffix("-Q8_0"))


@contextlib.contextmanager
def llama_server(
    model: Path, *, context_length: int, slots: int, threads: int, plain_weights: bool
) -> Iterator[LlamaServer]:
    """Run llama-server with one model."""
    command = [sys.executable, str(HERE / "rival.py"), str(model)]
    command += map(str, (context_length, slots, threads))
    if plain_weights:
        command.append("--plain-weights")
    with process(command, {}, lambda line: line.startswith("http")) as (address, _):
        yield LlamaServer(address)


@contextlib.contextmanager
def process(
    command: list[str], environment: dict[str, str], is_ready: Callable[[str], bool]
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a command while its context lasts.

    Yields the line by which it says that it is ready, and the process.
    """
    running = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | environment,
    )
    assert running.stdout is not None
    try:
        line = next(line for line in running.stdout if is_ready(line))
        yield line.strip(), running
    finally:
        running.terminate()
        running.wait()
