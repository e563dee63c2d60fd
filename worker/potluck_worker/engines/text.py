"""From token bytes to text that may be shown."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from potluck_worker.engines.stops import StopStrings


class AnswerText:
    """Turns the bytes of tokens into text: whole characters only, and nothing of a stop string.

    Text lags behind tokens by a character that is split over tokens, and by what may be the
    beginning of a stop string.

    Args:
        stop: The answer ends before any of these.

    Attributes:
        length: Code points given out so far.
        stop_string: The stop string that came, else empty. Nothing may be pushed after it.
    """

    def __init__(self, stop: Iterable[str] = ()) -> None:
        self.length = 0
        self.stop_string = ""
        self._stop = StopStrings(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def resume(self, pieces: Iterable[bytes], shown: str) -> str:
        """Take the tokens of an answer begun elsewhere; return the text that it still owes.

        Replaying them restores what lagged there: half a character, half a stop string.

        Args:
            pieces: The bytes of its tokens.
            shown: The text that was given out; the next text follows it.
        """
        text = ""
        for piece in pieces:
            text += self.push(piece)
            if self.stop_string:
                break
        owed, ahead = text[len(shown) :], len(shown) - len(text)
        if ahead > 0:
            # The other engine gave out more, as it does at an end. Nothing is shown twice.
            self._held = self._held[ahead:]
            self.length = len(shown)
        return owed

    def push(self, piece: bytes) -> str:
        """Take the bytes of a token; return the text that may be shown now."""
        return self._release(self._decoder.decode(piece))

    def finish(self) -> str:
        """Return what was held back, at the end of an answer."""
        text = self._release(self._decoder.decode(b"", final=True))
        if self.stop_string:
            return text
        rest, self._held = self._held, ""
        self.length += len(rest)
        return text + rest

    def _release(self, new: str) -> str:
        """Return what may be shown now that `new` came, and hold the rest."""
        text, held = self._held + new, len(self._held)
        for at, character in enumerate(new if self._stop else "", 1):
            if self._stop.push(character):
                self.stop_string, self._held = self._stop.found, ""
                return self._show(text[: max(0, held + at - len(self.stop_string))])
        # What was given out before a move may be a part of what has begun.
        cut = max(0, len(text) - self._stop.begun)
        self._held = text[cut:]
        return self._show(text[:cut])

    def _show(self, text: str) -> str:
        """Count what is given out."""
        self.length += len(text)
        return text
