"""The log that is shown, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace

LINES_KEPT = 2000
"""The newest lines of a log that can be scrolled over."""

WORKER = "worker"
"""How a worker's own log is called among those of its models."""


@dataclass(frozen=True, slots=True)
class LogKey:
    """Which log: of a machine's worker, or what its engines printed for a model."""

    address: str
    """The machine's."""
    model: str = ""
    """`name:quantization`; empty is the worker's own log."""


@dataclass(frozen=True, slots=True)
class LogView:
    """A log that is being followed."""

    key: LogKey
    node_name: str
    models: tuple[str, ...] = ()
    """Models that have a log on this machine."""
    lines: tuple[str, ...] = ()
    """The newest, the oldest of them first; cleaned."""
    count: int = 0
    """Lines that came so far, those that are not kept any more as well."""
    opened: int = 0
    """Counts up whenever the lines start anew."""
    problem: str = ""
    """Why it cannot be shown."""

    @property
    def names(self) -> tuple[str, ...]:
        """What this machine has logs of: the worker first, then models."""
        return (WORKER, *self.models)

    @property
    def place(self) -> int:
        """Where the shown log stands among `names`."""
        model = self.key.model
        return self.models.index(model) + 1 if model in self.models else 0

    def beside(self, steps: int) -> LogKey:
        """Return the log some steps further among `names`, which are a ring."""
        number = (self.place + steps) % len(self.names)
        return LogKey(self.key.address, self.models[number - 1] if number else "")

    def anew(self, models: tuple[str, ...], lines: tuple[str, ...]) -> LogView:
        """Return the log as it begins: with its last lines."""
        return replace(
            self,
            models=models,
            lines=lines[-LINES_KEPT:],
            count=len(lines),
            opened=self.opened + 1,
            problem="",
        )

    def grown(self, lines: tuple[str, ...]) -> LogView:
        """Return the log with newer lines."""
        return replace(
            self, lines=(*self.lines, *lines)[-LINES_KEPT:], count=self.count + len(lines)
        )
