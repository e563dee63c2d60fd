"""Esc that survives lag: one never stops anything, two in a row do."""

from __future__ import annotations

WINDOW_SECONDS = 1.5
"""The second Esc counts within this time."""


class DoubleEscape:
    """Tells a second Esc in a row from one that an arrow key, split by a slow link, left behind.

    Such a key goes on with other characters, which arrive as keys of their own; any key but Esc
    starts over.
    """

    def __init__(self) -> None:
        self._armed_at: float | None = None

    def press(self, now_seconds: float) -> bool:
        """Take an Esc; say whether it is the second in time."""
        armed_at, self._armed_at = self._armed_at, now_seconds
        if armed_at is None or now_seconds - armed_at > WINDOW_SECONDS:
            return False
        self._armed_at = None
        return True

    def other_key(self) -> None:
        """Take any other key."""
        self._armed_at = None
