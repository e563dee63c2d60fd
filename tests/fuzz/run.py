"""`make fuzz`: a million inputs over all that strangers can send, a process for each target."""

from __future__ import annotations

import argparse
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fuzz.targets import SHARES

TESTS = Path(__file__).resolve().parents[1]
TAIL_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target."""

    inputs: int
    peak_mib: int
    seconds: float
    fault: str
    """What the fuzzer said of what went wrong; empty where nothing did."""


def fuzz(name: str, inputs: int, seed: int) -> Outcome:
    """Fuzz one target to its end, with its share of all inputs."""
    started, its_inputs = time.monotonic(), max(1, round(inputs * SHARES[name]))
    command = [sys.executable, "-m", "fuzz.one", name, str(its_inputs), str(seed)]
    ended = subprocess.run(
        # A process begins with the peak of the memory of the one that started it, which the fuzzer
        # takes for its own: the shell stands between, and is small.
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return Outcome(
        inputs=_number(r"number_of_executed_units:\s+(\d+)", ended.stdout),
        peak_mib=_number(r"peak_rss_mb:\s+(\d+)", ended.stdout),
        seconds=time.monotonic() - started,
        fault=ended.stdout[-TAIL_CHARACTERS:] if ended.returncode else "",
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def main() -> int:
    """Fuzz all targets; return 1 where one failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31) + 1)
    options = parser.parse_args()
    print(f"seed {options.seed}\n{'target':<12}{'inputs':>10}{'seconds':>10}{'peak MiB':>10}")
    faults = 0
    for name in SHARES:
        outcome = fuzz(name, options.inputs, options.seed)
        numbers = f"{outcome.inputs:>10}{outcome.seconds:>10.1f}{outcome.peak_mib:>10}"
        print(f"{name:<12}{numbers}", flush=True)
        if outcome.fault:
            faults += 1
            print(outcome.fault)
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
