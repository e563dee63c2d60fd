"""As many threads as help, on a machine that others use too.

Threads of one step wait for each other many times, so one that shares its core with a busy program
holds up all. Measured on two cores beside one busy program: 30 to 100 ms for a token with two
threads, 17 with one; without the program 11 and 17. So the number of threads is tried out while
tokens are made. What the rest of the machine does says what to try, and steps say what is better.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

LOOK_SECONDS = 0.2
"""How often the rest of the machine is looked at."""

TRIAL_STEPS = 4
RETRY_SECONDS = 2.0
"""A number that lost is not tried again for this long."""

CONTENT_SECONDS = 15.0
"""How often fewer threads are tried when nothing changed."""

BETTER = 0.95
"""A number wins when its steps take this share of the present ones at most."""

SLOW = 1.5
"""A step is slow that takes this many times what is usual."""

SLOW_STEPS = 3
"""So many slow steps in a row mean that something changed."""


@dataclass(slots=True)
class _Usual:
    """What steps take with the present number of threads, for one number of sequences."""

    decoding: int
    seconds: float
    steps: int = 1


class ThreadPilot:
    """Chooses the number of threads for each step.

    Args:
        most: The most threads.
        cores: Cores that this process may use.
        others: Returns the cores that other programs kept busy since it was last called.
        clock: Seconds that go forward.

    Attributes:
        threads: For the next step.
    """

    def __init__(
        self,
        most: int,
        cores: int,
        others: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._cores = cores
        self._others = others
        self._clock = clock
        self._best = most
        self._free = most
        self._next_look = 0.0
        self._next_doubt = clock() + CONTENT_SECONDS
        self._usual = _Usual(0, 0.0, 0)
        self._slow_steps = 0
        self._trial: list[float] | None = None
        self._retry_at: dict[int, float] = {}
        self.threads = most

    def learn(self, decoding: int, seconds: float) -> None:
        """Take in a step of decoding alone.

        Args:
            decoding: Sequences that got a token in it.
            seconds: How long it took with `threads`.
        """
        if self._most == 1:
            return
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._free = max(1, min(self._most, round(self._cores - self._others())))
        if decoding != self._usual.decoding:
            # Steps of another size cannot be compared.
            self._end_trial()
            self._usual = _Usual(decoding, seconds)
        elif self._trial is not None:
            self._judge(self._trial, seconds, now)
        else:
            self._notice(seconds)
            self._try_something(now)

    def _notice(self, seconds: float) -> None:
        """Keep what is usual, and count slow steps."""
        usual = self._usual
        usual.steps += 1
        slow = usual.steps > TRIAL_STEPS and seconds > SLOW * usual.seconds
        self._slow_steps = self._slow_steps + 1 if slow else 0
        if not slow:
            usual.seconds += max(0.1, 1 / usual.steps) * (seconds - usual.seconds)
        elif self._slow_steps == SLOW_STEPS:
            usual.seconds = seconds

    def _try_something(self, now: float) -> None:
        """Begin a trial where there is reason for one."""
        if self._usual.steps < TRIAL_STEPS:
            return
        if self._slow_steps >= SLOW_STEPS:
            self._slow_steps = 0
            self._begin_trial(self._fewer() if self._free >= self._best else self._free)
        elif self._free != self._best and now >= self._retry_at.get(self._free, 0.0):
            self._begin_trial(self._free)
        elif now >= self._next_doubt:
            self._next_doubt = now + CONTENT_SECONDS
            self._begin_trial(self._fewer())

    def _fewer(self) -> int:
        return max(1, self._best - max(1, self._best // 4))

    def _begin_trial(self, threads: int) -> None:
        if threads != self._best:
            self.threads = threads
            self._trial = []

    def _end_trial(self) -> None:
        self.threads = self._best
        self._trial = None

    def _judge(self, trial: list[float], seconds: float, now: float) -> None:
        """Take in a step of a trial; end it as soon as its outcome is certain."""
        trial.append(seconds)
        budget = BETTER * self._usual.seconds * TRIAL_STEPS
        if sum(trial) > budget:
            self._retry_at[self.threads] = now + RETRY_SECONDS
            self._end_trial()
        elif len(trial) == TRIAL_STEPS:
            self._best = self.threads
            self._usual = _Usual(self._usual.decoding, sum(trial) / TRIAL_STEPS, TRIAL_STEPS)
            self._trial = None


class OthersLoad:
    """How many cores other programs keep busy, of those that this process may use."""

    def __init__(self) -> None:
        self._last = self._read()

    def __call__(self) -> float:
        """Return the mean over the time since the last call, in cores."""
        was, self._last = self._last, self._read()
        seconds = self._last[0] - was[0]
        if seconds <= 0:
            return 0.0
        _, busy, own = (now - before for now, before in zip(self._last, was, strict=True))
        return max(0.0, (busy - own) / seconds)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Return the time, and the seconds of work by all and by this process."""
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        busy = 0.0
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            if allowed is None or number in allowed:
                idle = times.idle + getattr(times, "iowait", 0.0)
                # Linux counts the guests of virtual machines twice.
                busy += sum(times) - idle - getattr(times, "guest", 0.0)
        return time.monotonic(), busy, time.process_time()
