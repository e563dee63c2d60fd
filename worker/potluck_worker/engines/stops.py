"""Finding stop strings in a text that comes piece by piece."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import itemgetter


class StopStrings:
    """Looks for many strings at once, one character at a time.

    A character costs a few binary searches, and not a comparison with each string. The string whose
    end comes first is found; of several that end together, the longest.

    Args:
        strings: What to look for; empty ones are left out.

    Attributes:
        found: The string that came, else empty. Nothing may be pushed after it.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        self.found = ""
        self._strings = sorted(set(filter(None, strings)))
        self._begins = {string[0] for string in self._strings}
        self._alive: list[tuple[int, int, int]] = []
        """For each place where a string may have begun, the earliest first: how many characters
        ago, and from where to where in `_strings` are those that begin so."""

    def __bool__(self) -> bool:
        return bool(self._strings)

    @property
    def begun(self) -> int:
        """The longest end of the text that is a beginning of a string, in code points."""
        return self._alive[0][0] if self._alive else 0

    def push(self, character: str) -> bool:
        """Take the next character; say whether a string is complete with it."""
        before = self._alive
        if character in self._begins:
            before = [*before, (0, 0, len(self._strings))]
        elif not before:
            return False
        self._alive = []
        for length, first, last in before:
            at = itemgetter(length)
            start = bisect_left(self._strings, character, first, last, key=at)
            end = bisect_right(self._strings, character, start, last, key=at)
            if start == end:
                continue
            if len(self._strings[start]) == length + 1:
                self.found = self._strings[start]
                return True
            self._alive.append((length + 1, start, end))
        return False
