"""Pasted text stays text.

Textual takes an escape character within a bracketed paste for the end of it, and the rest for keys:
a log with colours would be typed, and each of its lines sent. So those characters are replaced
before Textual sees them.
"""

from __future__ import annotations

from collections.abc import Iterable

from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.drivers import linux_driver
from textual.message import Message

ESCAPE = "\x1b"
REPLACEMENT = "\ufffd"

_BEGUN_ENDS = [BRACKETED_PASTE_END[:count] for count in range(len(BRACKETED_PASTE_END) - 1, 0, -1)]


class PasteParser(XTermParser):
    """Textual's reader of what the terminal sends, for pastes with escape characters in them."""

    _pasting = False
    _before = ""
    """The end of what came outside a paste, which may be the beginning of the mark of one."""
    _held = ""
    """The end of what came within a paste, which may be the beginning of the mark of its end."""

    def feed(self, data: str) -> Iterable[Message]:
        """Read on; an empty text is the end."""
        read = self._harmless(data)
        return super().feed(read) if read or not data else ()

    def _harmless(self, data: str) -> str:
        read = ""
        while data:
            taken = self._within(data) if self._pasting else self._outside(data)
            read += taken[0]
            data = taken[1]
        return read

    def _outside(self, data: str) -> tuple[str, str]:
        """Return what is read, and what comes within the paste that begins."""
        seen = self._before + data
        at = seen.find(BRACKETED_PASTE_START)
        if at < 0:
            self._before = seen[-len(BRACKETED_PASTE_START) + 1 :]
            return data, ""
        self._pasting, end = True, at + len(BRACKETED_PASTE_START) - len(self._before)
        self._before = ""
        return data[:end], data[end:]

    def _within(self, data: str) -> tuple[str, str]:
        """Return what is read, and what comes after the end of the paste."""
        pasted, end, rest = (self._held + data).partition(BRACKETED_PASTE_END)
        self._pasting = not end
        self._held = "" if end else next(filter(pasted.endswith, _BEGUN_ENDS), "")
        pasted = pasted.removesuffix(self._held)
        return pasted.replace(ESCAPE, REPLACEMENT) + end, rest


def install() -> None:
    """Have Textual read pastes so; it has no place for a reader of one's own."""
    linux_driver.XTermParser = PasteParser  # type: ignore[attr-defined]
