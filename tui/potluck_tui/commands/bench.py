"""`potluck bench`: how fast a model is on a machine, measured there."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator

from google.protobuf.json_format import MessageToDict

from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.columns import table_lines
from potluck_tui.connect import running_pool
from potluck_tui.words import counted, label, size


async def bench(options: argparse.Namespace, home: Home) -> int:
    """Measure a model; ^C ends that, and then nothing is kept."""
    request = pb.BenchModelRequest(model=options.model, node=options.node)
    async with running_pool(home, options.ssh) as client:
        try:
            async for response in client.bench(request):
                _show(response, as_json=options.json)
        except asyncio.CancelledError:
            print("\nStopped. Nothing of it is kept.", file=sys.stderr)
            raise
    return 0


def _show(response: pb.BenchModelResponse, *, as_json: bool) -> None:
    """Print how far it is, on one line that is drawn again and again, or what came out."""
    shows = sys.stderr.isatty()
    if as_json:
        print(json.dumps(MessageToDict(response, preserving_proto_field_name=True)), flush=True)
    elif response.HasField("benchmark"):
        print("\r\x1b[K" * shows, end="", file=sys.stderr, flush=True)
        print(clean("\n".join(benchmark_lines(response.benchmark))))
    elif shows:
        line = clean(progress_line(response))
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def progress_line(response: pb.BenchModelResponse) -> str:
    """Return what is being measured, in a line."""
    progress = response.progress
    if not progress.streams:
        return f"Loading on {response.node_name}"
    streams = f"{counted(progress.streams, 'answer')} at once of up to {progress.most_streams}"
    return f"On {response.node_name}: {streams}, {counted(progress.tokens, 'token')} so far"


def benchmark_lines(benchmark: pb.Benchmark) -> Iterator[str]:
    """Yield what was measured, as a table."""
    name = label(benchmark.model, benchmark.quantization)
    memory = f", {size(benchmark.memory_bytes)} in memory" if benchmark.memory_bytes else ""
    yield f"{name} on {benchmark.node_name}{memory}"
    yield ""
    header = ["AT ONCE", "READS TOKENS/S", "WRITES TOKENS/S", "IN ALL", "FIRST TOKEN", "J/TOKEN"]
    yield from table_lines(header, [_row(level) for level in benchmark.levels])
    yield ""
    yield "Reads and writes: of one answer. In all: written by all, over the time that"
    yield "prompts took too. The scheduler reckons with it until answers teach it better."


def _row(level: pb.BenchmarkLevel) -> list[str]:
    return [
        str(level.streams),
        _figure(level.prefill_tokens_per_second),
        _figure(level.decode_tokens_per_second),
        _figure(level.total_tokens_per_second),
        f"{level.time_to_first_token_seconds:.2f} s",
        f"{level.joules_per_token:.2g}" if level.HasField("joules_per_token") else "-",
    ]


def _figure(value: float) -> str:
    """Return a speed with a digit after the point where it is slow."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value else "-"
