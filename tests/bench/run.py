"""`make bench`: what Potluck costs, beside something that does the same, in one run.

Both sides of a row take turns, five times each; the row shows medians and their ratio. The machine
is shared and noisy: compare ratios, not absolute figures, and only within one run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import row
from potluck_worker.supervisor import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
POTLUCK = Path(sys.executable).parent / "potluck"
SCRIPTS = (
    "bench/fit.py",
    "bench/engine.py",
    "bench/beside_vllm.py",
    "bench/neighbour.py",
    "bench/terminal.py",
    "bench/terminal_rivals.py",
    "bench/crowd.py",
    "bench/relay.py",
    "bench/decisions.py",
    "bench/simulator.py",
    "bench/gaps.py",
    "bench/moves.py",
    "bench/fetch.py",
    "bench/copies.py",
)
REPEATS = 5


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


def main() -> None:
    """Print the table."""
    print(f"{'ours | beside it':<62} {'ours':>9} {'beside':>9} {'':<8} ratio")
    measure_start()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        measure_ask(Path(folder) / "a")
    for script in SCRIPTS:
        command = [sys.executable, str(ROOT / "tests" / script)]
        subprocess.run(command, check=True, env=os.environ | ENVIRONMENT, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
