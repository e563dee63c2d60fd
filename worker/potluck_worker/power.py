"""What the processor draws, from the energy that the kernel counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

LEAST_SECONDS = 0.2
"""The counters move in steps of a millisecond: over less than this the figure would jump."""


@dataclass(frozen=True, slots=True)
class _Counter:
    """What a processor has taken since it began to count."""

    folder: Path
    range_microjoules: int
    """It starts at 0 again after so many."""

    def read(self) -> int:
        """Return the count in microjoules. Raises `OSError` and `ValueError`."""
        return int((self.folder / "energy_uj").read_text())

    def since(self, before: int, now: int) -> int:
        """Return what was taken between two counts."""
        return now - before if now >= before else now - before + self.range_microjoules


class ProcessorPower:
    """Knows what the processors draw, where the kernel lets this user read it (RAPL).

    Often it lets only root; then nothing is known.

    Args:
        folder: The kernel's, laid out as `/sys/class/powercap`.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, folder: Path = POWERCAP, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._counters = tuple(_processors(folder))
        self._counts = self._read()
        self._read_at = clock()
        self._watts: float | None = None

    def watts(self) -> float | None:
        """Return what they drew on average since this was last asked; `None` where unknown."""
        now = self._clock()
        passed = now - self._read_at
        if not self._counts or passed < LEAST_SECONDS:
            return self._watts
        before, self._counts, self._read_at = self._counts, self._read(), now
        if not self._counts:
            self._watts = None
            return None
        taken = map(_Counter.since, self._counters, before, self._counts)
        self._watts = sum(taken) / 1e6 / passed
        return self._watts

    def _read(self) -> tuple[int, ...]:
        """Return all counts, none where one of them cannot be read."""
        try:
            return tuple(counter.read() for counter in self._counters)
        except (OSError, ValueError):
            return ()


def _processors(folder: Path) -> Iterator[_Counter]:
    """Yield the counter of each processor; of its parts, and of the whole machine, none."""
    for zone in sorted(folder.glob("intel-rapl:*")):
        try:
            if (zone / "name").read_text().startswith("package-"):
                yield _Counter(zone, int((zone / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            continue
