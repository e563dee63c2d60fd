"""The child process that holds one engine: `python -m potluck_worker.engine_host --fd N`.

One thread reads frames and queues them; the main thread takes them between steps. So a command
waits for one step at most, and the engine needs no locks. What the engine or its library prints
goes to stderr, which the daemon keeps in the model's log.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil

from potluck_proto.errors import NotEnoughMemory, PotluckError
from potluck_worker import child
from potluck_worker.engines import frames
from potluck_worker.engines.base import (
    Cancel,
    Close,
    Embed,
    Engine,
    Failure,
    Finished,
    FromChild,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Produced,
    RequestId,
    Stats,
    ToChild,
    failure_of,
)
from potluck_worker.engines.llama import require_library

STATS_SECONDS = 0.25
JOIN_SECONDS = 0.05
"""Faster than people read; the terminal draws half as often."""

SPEED_WINDOW_SECONDS = 1.0


def make_engine(name: str, progress: Callable[[float], None]) -> Engine:
    """Return an engine by name; only the one that is asked for is imported.

    Raises `EngineMissing` where its library is not installed.
    """
    if name == "fake":
        from potluck_worker.engines.fake import FakeEngine

        return FakeEngine(progress)
    if name == "vllm":
        from potluck_worker.engines.vllm.engine import VllmEngine

        return VllmEngine(progress)
    require_library()
    from potluck_worker.engines.llama.engine import LlamaEngine

    return LlamaEngine(progress)


class EngineHost:
    """Drives an engine by the frames that come over a pipe.

    Args:
        pipe: The child's end of the socketpair.
        engine_name: `llama`, `vllm` or `fake`.
    """

    def __init__(self, pipe: socket.socket, engine_name: str) -> None:
        self._pipe = pipe
        self._commands: queue.SimpleQueue[ToChild] = queue.SimpleQueue()
        self._engine_name = engine_name
        self._speed = SpeedMeter()
        self._steps = 0
        self._stats_due = 0.0
        self._outbox = Outbox()
        self._last_fraction = -1.0

    def run(self) -> int:
        """Serve until `Close` or the end of the pipe; return the exit code."""
        threading.Thread(target=self._read, daemon=True).start()
        first = self._commands.get()
        if not isinstance(first, Load) or not self._load(first):
            return 1
        try:
            self._serve()
        except Exception as error:
            # The daemon sees the end of the process and says so to whoever waits.
            report(error)
            return 1
        return 0

    def _serve(self) -> None:
        """Step while there is work, and obey between the steps, until `Close`."""
        while True:
            while not (self._engine.busy and self._commands.empty()):
                command = self._commands.get()
                if isinstance(command, Close):
                    self._engine.close()
                    return
                self._obey(command)
            self._step()

    def _load(self, load: Load) -> bool:
        try:
            self._engine = make_engine(self._engine_name, self._report_loading)
            self._send([self._engine.load(load)])
        except PotluckError as error:
            self._send([LoadFailed(failure_of(error))])
        except MemoryError:
            self._send([LoadFailed(failure_of(_no_memory_for(load)))])
        except Exception as error:
            # Whatever an engine's library raises must reach the daemon as a sentence.
            failure = Failure(int(PotluckError.code), f"{type(error).__name__}: {error}")
            self._send([LoadFailed(failure)])
            raise
        else:
            return True
        return False

    def _obey(self, command: ToChild) -> None:
        match command:
            case Generate() | Embed():
                self._engine.submit(command)
            case Cancel():
                self._engine.cancel(command.request_id)

    def _step(self) -> None:
        events = self._engine.step()
        self._steps += 1
        now = time.monotonic()
        self._speed.add(
            now, sum(len(event.token_ids) for event in events if isinstance(event, Produced))
        )
        events = self._outbox.join(events, now)
        if now >= self._stats_due or not self._engine.busy:
            self._stats_due = now + STATS_SECONDS
            events.append(self._stats(now))
        self._send(events)

    def _stats(self, now: float) -> Stats:
        busy = self._engine.busy
        return Stats(
            slots_busy=self._engine.slots_busy,
            queue_length=self._engine.queue_length,
            tokens_per_second=self._speed.tokens_per_second(now) if busy else 0.0,
            steps=self._steps,
            fullness=self._engine.fullness,
        )

    def _report_loading(self, fraction: float) -> None:
        """Report a load by the percent, since the library reports each tensor."""
        if fraction - self._last_fraction >= 0.01:
            self._last_fraction = fraction
            self._send([Loading(fraction)])

    def _send(self, events: list[FromChild]) -> None:
        """Write all frames of a step at once."""
        if events:
            try:
                self._pipe.sendall(b"".join(map(frames.encode, events)))
            except OSError:
                # The daemon is gone, and nobody is left to work for.
                os._exit(1)

    def _read(self) -> None:
        """Queue frames until the pipe ends; garbage on it ends the child."""
        with self._pipe.makefile("rb") as pipe:
            try:
                while (body := frames.read_blocking(pipe)) is not None:
                    self._commands.put(frames.decode_to_child(body))
            except frames.FrameError as error:
                print(f"engine host: {error}", file=sys.stderr, flush=True)
                os._exit(2)
        # The daemon is gone. A step may take long, so the process does not wait for it.
        os._exit(0)


class Outbox:
    """Joins the pieces of fast answers, since each frame wakes up two processes.

    The first piece of an answer goes out at once; what follows goes out every `JOIN_SECONDS`, of
    all answers together.
    """

    def __init__(self) -> None:
        self._begun: set[RequestId] = set()
        self._held: dict[RequestId, Produced] = {}
        self._due = 0.0

    def join(self, events: list[FromChild], now: float) -> list[FromChild]:
        """Return what is to be sent after a step that led to `events`."""
        out: list[FromChild] = []
        for event in events:
            match event:
                case Produced() if event.request_id in self._begun:
                    held = self._held.pop(event.request_id, None)
                    self._held[event.request_id] = event if held is None else held.joined(event)
                case Produced():
                    self._begun.add(event.request_id)
                    out.append(event)
                case Finished():
                    if held := self._held.pop(event.request_id, None):
                        out.append(held)
                    self._begun.discard(event.request_id)
                    out.append(event)
                case _:
                    out.append(event)
        if now >= self._due:
            out += self._held.values()
            self._held.clear()
            self._due = now + JOIN_SECONDS
        return out


class SpeedMeter:
    """Tokens per second over the last `SPEED_WINDOW_SECONDS`."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def add(self, now: float, tokens: int) -> None:
        """Count the tokens of a step that ended `now`."""
        self._steps.append((now, tokens))
        self._tokens += tokens
        while self._steps[0][0] < now - SPEED_WINDOW_SECONDS:
            self._tokens -= self._steps.popleft()[1]

    def tokens_per_second(self, now: float) -> float:
        """Return the speed; short work is measured over its own time."""
        if len(self._steps) < 2:
            return 0.0
        return self._tokens / max(now - self._steps[0][0], 1e-3)


def _no_memory_for(load: Load) -> NotEnoughMemory:
    held = psutil.Process().memory_info().rss / 2**30
    return NotEnoughMemory(
        f"{Path(load.path).name} ran out of memory while it was loaded; its engine held "
        f"{held:.1f} GiB. Take a smaller quantization, context_length or slots."
    )


def report(error: Exception) -> None:
    """Print where the engine failed, and not the error's own words, which may quote a prompt."""
    print("Traceback (most recent call last):", file=sys.stderr)
    traceback.print_tb(error.__traceback__)
    print(type(error).__name__, file=sys.stderr)


def main() -> int:
    """Run the child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--engine", choices=["llama", "vllm", "fake"], required=True)
    options = parser.parse_args()
    child.begin(options.scratch)
    faulthandler.enable()
    with socket.socket(fileno=options.fd) as pipe:
        return EngineHost(pipe, options.engine).run()


if __name__ == "__main__":
    sys.exit(main())
