"""Rows of the table that `make bench` prints."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def row(name: str, ours: Sequence[float], beside: Sequence[float], unit: str) -> None:
    """Print the medians of both sides, and their ratio."""
    mine, other = statistics.median(ours), statistics.median(beside)
    ratio = mine / other if other else float("nan")
    print(f"{name:<62} {mine:>9.1f} {other:>9.1f} {unit:<8} {ratio:>5.2f}", flush=True)
