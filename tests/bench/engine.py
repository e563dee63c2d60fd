"""The engine room beside llama.cpp's own server; a part of `make bench`.

One file of random weights in the shape of a 135M model, the same threads, slots and greedy
sampling. Both servers are processes; sides take turns, and rows are medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from llama_cpp import llama_cpp as api

from bench.serving import Server, Timeline, llama_server, our_worker
from bench.shapes import SHAPES, make
from bench.table import row
from potluck_worker.engines.base import Load
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.llama.library import has_amx

REPEATS = 5
THREADS = psutil.cpu_count(logical=False) or 1
CONTEXT_LENGTH = 2048
SLOTS = 16
STREAMS = ((1, 96), (4, 64), (16, 40))
"""Streams at once, and the tokens of each."""


async def tokens_per_second(server: Server, streams: int, tokens: int, run: str) -> float:
    """Return the speed of all streams together, from the first question to the last token."""
    started = time.perf_counter()
    prompts = (f"{run} {stream} What is a house full of computers?" for stream in range(streams))
    await asyncio.gather(*(server.answer(prompt, tokens) for prompt in prompts))
    return streams * tokens / (time.perf_counter() - started)


async def measure_streams(ours: Server, theirs: Server, loop: PlainLoop) -> None:
    """Tokens per second at several streams, of three sides."""
    for streams, tokens in STREAMS:
        figures: list[list[float]] = [[], [], []]
        for repeat in range(REPEATS):
            for side, server in enumerate((ours, theirs)):
                speed = await tokens_per_second(server, streams, tokens, f"{repeat}")
                figures[side].append(speed)
            figures[2].append(await asyncio.to_thread(loop.tokens_per_second, streams, tokens))
        row(f"{streams} stream(s): worker | llama-server", figures[0], figures[1], "tokens/s")
        row(f"{streams} stream(s): worker | plain batched loop", figures[0], figures[2], "tokens/s")


class PlainLoop:
    """llama.cpp's own batched loop, in this process: prompts at once, then a token each a step."""

    def __init__(self, model: Path) -> None:
        self._engine = LlamaEngine()
        self._engine.load(Load(str(model), CONTEXT_LENGTH, SLOTS, threads=THREADS))

    def tokens_per_second(self, streams: int, tokens: int) -> float:
        """Return the speed with prompts as long as those of the servers."""
        context, batch = self._engine._decoder.context, self._engine._batch
        memory = api.llama_get_memory(context)
        api.llama_memory_clear(memory, True)
        sampler = api.llama_sampler_init_greedy()
        started = time.perf_counter()
        pending = [[65 + stream] * 42 for stream in range(streams)]
        position = 0
        for _ in range(tokens):
            length = len(pending[0])
            drawn = []
            for first in range(0, streams, batch.capacity // length):
                batch.clear()
                some = pending[first : first + batch.capacity // length]
                rows = [
                    batch.add(first + number, position, ids, wants_logits=True)
                    for number, ids in enumerate(some)
                ]
                assert api.llama_decode(context, batch.native) == 0
                drawn += [[api.llama_sampler_sample(sampler, context, at)] for at in rows]
            position += length
            pending = drawn
        seconds = time.perf_counter() - started
        api.llama_sampler_free(sampler)
        return streams * tokens / seconds


async def measure_newcomer(ours: Server, theirs: Server) -> None:
    """A prompt of 500 tokens that comes while 8 others are being answered."""
    first: dict[Server, list[float]] = {ours: [], theirs: []}
    slow: dict[Server, list[float]] = {ours: [], theirs: []}
    usual: dict[Server, list[float]] = {ours: [], theirs: []}
    for repeat in range(REPEATS):
        for server in (ours, theirs):
            lines = [Timeline() for _ in range(8)]
            others = [
                asyncio.create_task(server.answer(f"{repeat} {number} Go on.", 120, line))
                for number, line in enumerate(lines)
            ]
            await asyncio.gather(*(line.under_way.wait() for line in lines))
            newcomer = await server.answer(f"{repeat}{'x' * 499}", 1)
            await asyncio.gather(*others)
            came, went = newcomer.asked, newcomer.times[0]
            first[server].append(1000 * newcomer.first)
            before = [gap for line in lines for gap in line.gaps(line.times[8], came)]
            during = [gap for line in lines for gap in line.gaps(came - max(before), went)]
            usual[server].append(1000 * statistics.median(before))
            slow[server].append(1000 * statistics.quantiles(during, n=100)[98])
    row(
        "first token of 500 beside 8 streams: worker | llama-server",
        first[ours],
        first[theirs],
        "ms",
    )
    row("the 8 meanwhile, p99 gap: worker | its usual gap", slow[ours], usual[ours], "ms")
    row("the same of llama-server", slow[theirs], usual[theirs], "ms")


async def measure_prefix(ours: Server, theirs: Server) -> None:
    """The share of a prompt of 1,000 tokens that is computed again after 8 other chats."""
    shares: dict[Server, list[float]] = {ours: [], theirs: []}
    for repeat in range(REPEATS):
        prompt = f"{repeat}".ljust(1000, "y")
        for server in (ours, theirs):
            await server.answer(prompt, 1)
            for other in range(8):
                await server.answer(f"{repeat}{other}".ljust(400, "z"), 1)
            again = await server.answer(prompt, 1)
            shares[server].append(100 - again.cached_prompt_tokens / 10)
    name = "1,000 tokens asked again after 8 chats, computed | llama-server"
    row(name, shares[ours], shares[theirs], "%")


async def measure_overhead(folder: Path) -> None:
    """Processor time of the daemon for a token, with the fake engine, and its memory."""
    model = folder / "words.fake.toml"
    tokens = 500
    words = " ".join(f"word{number}" for number in range(tokens))
    for speed, streams in ((0, 8), (50, 8), (50, 1)):
        model.write_text(f'text = "{words}"\ntokens_per_second = {speed}\n')
        home = folder / f"{speed}-{streams}"
        async with our_worker(model, home, context_length=4096, slots=8) as worker:
            daemon = next(p for p in psutil.Process().children() if "potluck_worker" in p.cmdline())
            await worker.answer("Hi", tokens)
            before = daemon.cpu_times()
            await asyncio.gather(*(worker.answer("Hi", tokens) for _ in range(streams)))
            after = daemon.cpu_times()
            spent = after.user + after.system - before.user - before.system
            microseconds = 1e6 * spent / tokens / streams
            pace = f"{speed} tokens/s each" if speed else "as fast as it goes"
            name = f"daemon, {streams} fake stream(s), {pace}"
            print(f"{name:<62} {microseconds:>9.1f} us of CPU a token")
            print(f"{'its memory':<62} {daemon.memory_info().rss / 2**20:>9.1f} MiB", flush=True)


async def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="pl-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        model = folder / "135m-Q8_0.gguf"
        make(model, SHAPES["135m"])
        theirs = stack.enter_context(
            llama_server(
                model,
                context_length=CONTEXT_LENGTH,
                slots=SLOTS,
                threads=THREADS,
                plain_weights=has_amx(),
            )
        )
        async with our_worker(
            model, folder / "a", context_length=CONTEXT_LENGTH, slots=SLOTS, threads=THREADS
        ) as ours:
            await asyncio.gather(ours.answer("Hi", 4), theirs.answer("Hi", 4))
            await measure_streams(ours, theirs, PlainLoop(model))
            await measure_newcomer(ours, theirs)
            await measure_prefix(ours, theirs)
        await measure_overhead(folder)


if __name__ == "__main__":
    asyncio.run(main())
