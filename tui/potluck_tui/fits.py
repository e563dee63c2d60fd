"""What the models take on each machine, as far as somebody asked."""

from __future__ import annotations

from collections.abc import Sequence

from potluck_tui.instructions import FitModel


class Fits:
    """Keeps the last answer for each model; it is asked anew whenever somebody looks."""

    def __init__(self) -> None:
        self.asking = ""
        """The model that is being asked about."""
        self._lines: dict[str, tuple[str, ...]] = {}

    def ask(self, label: str) -> Sequence[FitModel]:
        """Ask what a model takes, unless that is under way."""
        if not label or self.asking == label:
            return []
        self.asking = label
        return [FitModel(label)]

    def found(self, label: str, lines: tuple[str, ...]) -> None:
        """Take in an answer, or why there is none."""
        self._lines[label] = lines
        if self.asking == label:
            self.asking = ""

    def lines(self, label: str) -> tuple[str, ...]:
        """Return the last answer; empty where there was none."""
        return self._lines.get(label, ())
