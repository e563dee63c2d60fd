"""The child process that holds one engine: `python -m potluck_worker.engine_host --fd N`.

One thread reads frames and queues them; the main thread takes them between steps. So a command
waits for one step at most, and the engine needs no locks. What the engine or its library prints
goes to stderr, which the daemon keeps in a file.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from potluck_proto.errors import PotluckError
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
JOIN_SECONDS = 0.02
SPEED_WINDOW_SECONDS = 1.0
PR_SET_PDEATHSIG = 1


def make_engine(name: str, progress: Callable[[float], None]) -> Engine:
    """Return an engine by name; only the one that is asked for is imported.

    Raises `EngineMissing` where its library is not installed.
    """
    if name == "fake":
        from potluck_worker.engines.fake import FakeEngine

        return FakeEngine(progress)
    require_library()
    from potluck_worker.engines.llama.engine import LlamaEngine

    return LlamaEngine(progress)


class EngineHost:
    """Drives an engine by the frames that come over a pipe.

    Args:
        pipe: The child's end of the socketpair.
        engine_name: `llama` or `fake`.
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
        while True:
            while not (self._engine.busy and self._commands.empty()):
                command = self._commands.get()
                if isinstance(command, Close):
                    self._engine.close()
                    return 0
                self._obey(command)
            self._step()

    def _load(self, load: Load) -> bool:
        try:
            self._engine = make_engine(self._engine_name, self._report_loading)
            self._send([self._engine.load(load)])
        except PotluckError as error:
            self._send([LoadFailed(failure_of(error))])
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
    """Joins the pieces of a fast answer, since each frame wakes up two processes.

    The first piece of an answer goes out at once; what follows within `JOIN_SECONDS`, faster than
    an eye can tell, goes out as one.
    """

    def __init__(self) -> None:
        self._sent: dict[RequestId, float] = {}
        self._held: dict[RequestId, Produced] = {}

    def join(self, events: list[FromChild], now: float) -> list[FromChild]:
        """Return what is to be sent after a step that led to `events`."""
        out: list[FromChild] = []
        for event in events:
            match event:
                case Produced():
                    held = self._held.pop(event.request_id, None)
                    self._held[event.request_id] = event if held is None else held.joined(event)
                case Finished():
                    if held := self._held.pop(event.request_id, None):
                        out.append(held)
                    self._sent.pop(event.request_id, None)
                    out.append(event)
                case _:
                    out.append(event)
        for request_id in list(self._held):
            if now >= self._sent.get(request_id, 0.0) + JOIN_SECONDS:
                self._sent[request_id] = now
                out.append(self._held.pop(request_id))
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


def die_with_parent() -> None:
    """Have the kernel kill this process when the daemon dies, even while it computes (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Run the child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--engine", choices=["llama", "fake"], required=True)
    options = parser.parse_args()
    # Ctrl+C in a terminal is for the viewer there, not for an engine that others use.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    with socket.socket(fileno=options.fd) as pipe:
        return EngineHost(pipe, options.engine).run()


if __name__ == "__main__":
    sys.exit(main())
