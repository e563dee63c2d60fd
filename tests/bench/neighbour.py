"""Decoding beside a busy program that comes and goes; a part of `make bench`.

Our number of threads, which adapts, beside the best fixed one in each state.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.shapes import SHAPES, make
from bench.table import row
from potluck_worker.engines.base import ChatMessage, Generate, Load, Produced, Sampling
from potluck_worker.engines.llama.engine import LlamaEngine

ROUNDS = 5
SECONDS = 1.5
SETTLING_SECONDS = 2.0
MOST = psutil.cpu_count(logical=False) or 1


class Fixed:
    """A number of threads that stays."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def learn(self, decoding: int, seconds: float) -> None:
        """Learn nothing."""


@contextmanager
def busy_program() -> Iterator[None]:
    """Keep one core busy."""
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        program.kill()
        program.wait()


class Bench:
    """One engine that decodes one endless answer after another."""

    def __init__(self, model: str) -> None:
        self._engine = LlamaEngine()
        self._engine.load(Load(model, 1024, 1, threads=MOST))
        self._adaptive = self._engine._decoder.threads
        self._names = map(str, itertools.count())

    def speed(self, seconds: float, threads: int | None) -> float:
        """Return tokens per second with so many threads, `None` for our own choice."""
        self._engine._decoder.threads = self._adaptive if threads is None else Fixed(threads)  # type: ignore[assignment]
        tokens, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            if not self._engine.busy:
                sampling = Sampling(temperature=0.0, max_tokens=512)
                message = ChatMessage("user", "Go on.")
                self._engine.submit(Generate(next(self._names), [message], sampling))
            events = self._engine.step()
            tokens += sum(len(event.token_ids) for event in events if isinstance(event, Produced))
        return tokens / seconds

    def compare(self, name: str) -> None:
        """Print our speed beside that of the best fixed number, in the state that there is."""
        self.speed(SETTLING_SECONDS, None)
        ours: list[float] = []
        fixed: dict[int, list[float]] = {threads: [] for threads in range(1, MOST + 1)}
        for _ in range(ROUNDS):
            ours.append(self.speed(SECONDS, None))
            for threads, speeds in fixed.items():
                speeds.append(self.speed(SECONDS, threads))
        best = max(fixed.values(), key=sum)
        row(f"{name}: adaptive threads | best fixed number", ours, best, "tokens/s")


def main() -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        model = Path(folder) / "135m.gguf"
        make(model, SHAPES["135m"])
        bench = Bench(str(model))
    bench.speed(1.0, None)
    bench.compare("quiet")
    with busy_program():
        bench.compare("beside a busy program")
    changing: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for state, speeds in zip((busy_program, quiet), changing, strict=True):
            with state():
                bench.speed(SETTLING_SECONDS, None)
                speeds.append(bench.speed(SECONDS, None))
    best = []
    for state in (busy_program, quiet):
        with state():
            best.append(max(bench.speed(SECONDS, threads) for threads in range(1, MOST + 1)))
    row("2 s after it came: adaptive | best fixed number", changing[0], best[:1], "tokens/s")
    row("2 s after it went: adaptive | best fixed number", changing[1], best[1:], "tokens/s")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave the machine alone."""
    yield


if __name__ == "__main__":
    main()
