"""From token bytes to text that may be shown."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence


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

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.length = 0
        self.stop_string = ""
        self._stop = tuple(filter(None, stop))
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
        return self._release(self._held + self._decoder.decode(piece))

    def finish(self) -> str:
        """Return what was held back, at the end of an answer."""
        text = self._release(self._held + self._decoder.decode(b"", final=True))
        if self.stop_string:
            return text
        rest, self._held = self._held, ""
        self.length += len(rest)
        return text + rest

    def _release(self, text: str) -> str:
        """Split `text` into what may be shown, which is returned, and what is held."""
        found = [(at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            cut, self.stop_string = min(found, key=lambda pair: pair[0])
            self._held = ""
        else:
            cut = len(text) - max((_overlap(text, stop) for stop in self._stop), default=0)
            self._held = text[cut:]
        self.length += cut
        return text[:cut]


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
