"""How long a model takes to be described, and a library of many to be listed.

`PYTHONPATH=tests python tests/bench/library.py`: some seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

from bench.shapes import Size, make
from lineages.make import Shape
from potluck_worker import questions
from potluck_worker.convert_model import describe
from potluck_worker.engines.sizing import HOST, Described, Options, Question, Room
from worker.stores import store

VOCABULARY = 151_936
MODELS = 500
RUNS = 7


def main() -> None:
    """Print both."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        models = Path(folder, "models")
        models.mkdir()
        first = models / "m-0-Q8_0.gguf"
        make(first, Size(Shape(24, 64, 128, 4, 2, 8192), VOCABULARY))
        asyncio.run(print_description(first))
        asyncio.run(print_list(models, first))


async def print_description(path: Path) -> None:
    """Print what the child takes that reads a file, from its start to its end."""
    options = Options(context_length=4096, slots=4, kv_type="f16")
    question = Question(str(path), options, Room({HOST: 2**40}), shorten=True)
    took, before = [], _children_seconds()
    for _ in range(RUNS):
        started = time.perf_counter()
        found = await questions.ask("describe", Described, question)
        took.append(time.perf_counter() - started)
    computed = (_children_seconds() - before) / RUNS
    print(
        f"describing a model with {found.inspection.vocabulary_size:,} tokens: "
        f"{statistics.median(took):.2f} s, of which it computes {computed:.2f} s"
    )


async def print_list(models: Path, first: Path) -> None:
    """Print what a daemon takes to list many models that it knows from before."""
    await store(models).scan(caches=False)
    cache = models.parent / "inspections.json"
    kept = json.loads(cache.read_text())
    finding = kept["findings"][str(first)]
    for number in range(1, MODELS):
        path = models / f"m-{number}-Q8_0.gguf"
        os.link(first, path)
        kept["findings"][str(path)] = finding
    cache.write_text(json.dumps(kept))
    took, before, computed = [], _children_seconds(), time.process_time()
    for _ in range(RUNS):
        started = time.perf_counter()
        known = store(models)
        await known.scan(caches=False)
        said = [describe(model) for model in known.models]
        took.append(time.perf_counter() - started)
        assert len(said) == MODELS + 1  # and the one that comes along
    assert _children_seconds() == before, "no process was started"
    computed = (time.process_time() - computed) / RUNS
    print(
        f"listing {len(said)} models that are known: {statistics.median(took):.2f} s, "
        f"of which it computes {computed:.2f} s, and starts no process"
    )


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
