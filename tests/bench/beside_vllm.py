"""Our worker beside `vllm serve` on one checkpoint; a part of `make bench` where vLLM is set up.

Both run the same vLLM, as whole servers, with the same context, slots and bytes of KV cache, and
answer the same chats greedily to one lean client. Neither compiles the model: for a minute more at
each load, that makes one of this size some 12 % faster on a processor, and a larger one less. Sides
take turns, and rows are medians. vLLM's own processes look for work without pause for a while after
each answer, so they are stopped while it is our turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from bench.serving import Server, Timeline, our_worker, process
from bench.table import row
from checkpoints import Shape, make_llama

ROOT = Path(__file__).resolve().parents[2]
VLLM = ROOT / ".venv-vllm/bin"
SHAPE = Shape(
    layers=30, width=576, hidden=1536, heads=9, kv_heads=3, vocabulary=49_152, context_length=2048
)
"""As of a model with 135M parameters."""

REPEATS = 5
SLOTS = 8
STREAMS = (1, SLOTS)
"""Streams at once."""

TOKENS = 120
"""Of each stream."""


class VllmServe:
    """vLLM's own server, over HTTP with server-sent events."""

    def __init__(self, port: int, model: Path) -> None:
        self._port, self._model = port, str(model)

    async def answer(self, prompt: str, tokens: int, timeline: Timeline | None = None) -> Timeline:
        """Ask for exactly so many tokens, greedily; return when they came."""
        body = json.dumps(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": tokens,
                "temperature": 0,
                "stream": True,
            }
        ).encode()
        line = timeline or Timeline()
        line.asked = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        async for event in reader:
            if event.startswith(b"data: {"):
                (choice,) = json.loads(event[6:])["choices"]
                # Each token of the model is a word with a space before it.
                line.add(choice["delta"].get("content", "").count(" "))
        writer.close()
        await writer.wait_closed()
        assert len(line.times) == tokens, f"{len(line.times)} tokens instead of {tokens}"
        return line


@contextlib.contextmanager
def vllm_serve(model: Path, folder: Path) -> Iterator[VllmServe]:
    """Run `vllm serve` with one model."""
    # The build for processors goes by another name, and its command asks for the usual one.
    named = folder / "vllm-0+cpu.dist-info"
    named.mkdir()
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0+cpu\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "--host": "127.0.0.1",
        "--port": port,
        "--max-model-len": SHAPE.context_length,
        "--max-num-seqs": SLOTS,
        "--kv-cache-memory-bytes": "1G",
        "--block-size": 32,
    }
    # It says on standard error that it is ready.
    command = ["sh", "-c", 'exec "$@" 2>&1', "sh", str(VLLM / "vllm"), "serve", str(model)]
    command += ["--enforce-eager", *(str(part) for option in options.items() for part in option)]
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": str(folder)}
    with process(command, environment, lambda line: "startup complete" in line):
        yield VllmServe(port, model)


async def tokens_per_second(server: Server, streams: int, tokens: int, run: str) -> float:
    """Return the speed of all streams together, from the first question to the last token."""
    started = time.perf_counter()
    prompts = (f"{run} {stream} What is a house full of computers?" for stream in range(streams))
    await asyncio.gather(*(server.answer(prompt, tokens) for prompt in prompts))
    return streams * tokens / (time.perf_counter() - started)


async def main() -> None:
    """Print the rows."""
    if not (VLLM / "vllm").exists():
        print("vLLM is not set up (`make test-vllm` does it): its rows are left out", flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        folder = Path(name)
        model = make_llama(folder / "135m", SHAPE)
        os.environ["POTLUCK_WORKER_VLLM_PYTHON"] = str(VLLM / "python")
        async with our_worker(
            model, folder / "home", context_length=SHAPE.context_length, slots=SLOTS
        ) as ours:
            before = set(psutil.Process().children(recursive=True))
            with vllm_serve(model, folder) as theirs:
                family = set(psutil.Process().children(recursive=True)) - before
                await measure(ours, theirs, family)


@contextlib.contextmanager
def stopped(family: Iterable[psutil.Process]) -> Iterator[None]:
    """Have processes take no time while a context lasts."""
    for member in family:
        member.suspend()
    try:
        yield
    finally:
        for member in family:
            member.resume()


async def measure(ours: Server, theirs: Server, their_family: Iterable[psutil.Process]) -> None:
    """Tokens per second, at one stream and at as many as there are slots."""
    for server in (ours, theirs):
        await tokens_per_second(server, SLOTS, 20, "warm-up")
    for streams in STREAMS:
        figures: list[list[float]] = [[], []]
        for repeat in range(REPEATS):
            with stopped(their_family):
                figures[0].append(await tokens_per_second(ours, streams, TOKENS, str(repeat)))
            figures[1].append(await tokens_per_second(theirs, streams, TOKENS, str(repeat)))
        row(f"{streams} stream(s): worker | vllm serve", figures[0], figures[1], "tokens/s")


if __name__ == "__main__":
    asyncio.run(main())
