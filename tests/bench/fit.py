"""What models were estimated to take beside what they take; a part of `make bench`.

Each row is one way of holding one model: the estimate before any load, the peak of a load in full
use, the estimate that learned from it, and the peak of another load. `--all` adds each lineage, and
rows that take minutes on a small machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from bench import shapes
from engines.asking import planned
from engines.driving import STARTER
from engines.full_use import FullUse
from lineages import make as lineages
from lineages.kinds import LINEAGES
from potluck_worker.engines.sizing import HOST, Estimate, Options
from potluck_worker.measurements import Measurement, Measurements
from potluck_worker.supervisor import ENVIRONMENT

TESTS = Path(__file__).resolve().parents[1]
MIB = 2**20
KINDS = ("f16", "q8_0", "q4_0")
MATRIX = {
    "starter": [(512, 1), (2048, 4)],
    "tiny": [(512, 1), (4096, 4)],
    "135m": [(512, 1), (1024, 2)],
}
"""Contexts and slots, each with all kinds of cache that the model can have."""

MORE = {
    **{lineage: [(512, 1), (1024, 3)] for lineage in LINEAGES},
    "0.5b": [(512, 1), (1024, 2)],
    "1b": [(512, 1), (512, 2)],
    "135m": [(2048, 4)],
}
SMALL_HEADS = {"tiny", *LINEAGES}
"""Their heads are no whole blocks, so their cache is of the first kind."""


def full_use(path: Path, options: Options) -> FullUse:
    """Return what a process of its own measures."""
    arguments = [str(path), str(options.context_length), str(options.slots), options.kv_type or ""]
    result = subprocess.run(
        [sys.executable, "-m", "engines.full_use", *arguments],
        check=True,
        capture_output=True,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(TESTS)},
    )
    return FullUse(**json.loads(result.stdout))


def measure(path: Path, options: Options, measurements: Measurements) -> tuple[float, float]:
    """Print a row; return how far the estimate was off before and after, as a part of the peak."""
    estimate = planned(path, options).estimate
    first = full_use(path, options)
    measured = Measurement({HOST: first.peak_bytes}, first.fullness)
    measurements.note(path.name, estimate, measured)
    learned = measurements.corrected(path.name, estimate)
    second = full_use(path, options)
    before, after = _error(estimate, first), _error(learned, second)
    sizes = (estimate.total_bytes, first.peak_bytes, learned.total_bytes, second.peak_bytes)
    name = f"{path.stem} {options.context_length} x {options.slots} {options.kv_type}"
    figures = "".join(f"{size_bytes / MIB:>10.1f}" for size_bytes in sizes)
    off = (estimate.total_bytes - first.peak_bytes) / MIB
    print(f"{name:<36}{figures}{off:>9.1f}{before:>8.1%}{after:>8.1%}", flush=True)
    return before, after


def made(model: str, folder: Path) -> Path:
    """Return the file of a model, made once."""
    if model == "starter":
        return STARTER
    path = folder / f"{model}.gguf"
    if not path.exists():
        if model in LINEAGES:
            lineages.make(path, LINEAGES[model])
        else:
            shapes.make(path, shapes.SHAPES[model])
    return path


def _error(estimate: Estimate, use: FullUse) -> float:
    return abs(estimate.total_bytes - use.peak_bytes) / use.peak_bytes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true", help="also lineages and large models")
    matrices = [MATRIX, MORE] if parser.parse_args().all else [MATRIX]
    heads = ("estimate", "measured", "learned", "measured", "off", "before", "after")
    print(f"{'memory in MiB: estimated | in full use':<36}{heads[0]:>10}{heads[1]:>10}", end="")
    print(f"{heads[2]:>10}{heads[3]:>10}{heads[4]:>9}{heads[5]:>8}{heads[6]:>8}")
    worst_before = worst_after = 0.0
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        measurements = Measurements(Path(name) / "measurements.json", "")
        for matrix in matrices:
            for model, ways in matrix.items():
                path = made(model, Path(name))
                kinds = KINDS[:1] if model in SMALL_HEADS else KINDS
                for (context_length, slots), kv_type in product(ways, kinds):
                    options = Options(context_length, slots, kv_type)
                    before, after = measure(path, options, measurements)
                    worst_before, worst_after = max(worst_before, before), max(worst_after, after)
    print(f"worst: {worst_before:.1%} before a load, {worst_after:.1%} after one", flush=True)


if __name__ == "__main__":
    main()
