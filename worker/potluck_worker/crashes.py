"""Engines that die again and again: each further time costs a longer pause."""

from __future__ import annotations

import time
from dataclasses import dataclass

from potluck_proto.errors import EngineDied
from potluck_worker.stored_model import Key

LONGEST_BACKOFF_SECONDS = 30.0
IN_A_ROW_SECONDS = 60.0
"""Crashes further apart than this are not in a row."""


@dataclass(slots=True)
class _Row:
    """Crashes of one model in a row, and when it may be tried again."""

    count: int = 0
    last: float = 0.0
    not_before: float = 0.0


class Crashes:
    """Knows how often the engine of each model died lately."""

    def __init__(self) -> None:
        self._rows: dict[Key, _Row] = {}

    def note(self, key: Key) -> None:
        """Count a crash; from the second in a row on there is a pause, each twice the last."""
        row, now = self._rows.setdefault(key, _Row()), time.monotonic()
        row.count = row.count + 1 if now - row.last < IN_A_ROW_SECONDS else 1
        row.last = now
        pause_seconds = 2.0 ** (row.count - 2) if row.count > 1 else 0.0
        row.not_before = now + min(LONGEST_BACKOFF_SECONDS, pause_seconds)

    def check(self, key: Key) -> None:
        """Raise `EngineDied` while a model is not to be tried again."""
        row = self._rows.get(key)
        if row and (rest_seconds := row.not_before - time.monotonic()) > 0:
            raise EngineDied(
                f"The engine of {key[0]} died {row.count} times in a row; it is tried again in "
                f"{rest_seconds:.0f} seconds. `potluck logs {key[0]}` may say why."
            )
