"""Where a model's thoughts end and its answer begins.

Models that think aloud put their thoughts first, between two marks. Some chat templates write the
opening mark into the prompt, so that only the closing one is in the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARKS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "[THINK]": "[/THINK]",
}
_OPENING = re.compile("|".join(map(re.escape, _MARKS)))
_CLOSING = re.compile("|".join(map(re.escape, _MARKS.values())))
_LONGEST_CLOSING = max(map(len, _MARKS.values()))


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer, in what it thought and what it said."""

    thought: str
    said: str
    thinking: bool = False
    """It thinks still: the closing mark has not come."""


def split_thought(text: str) -> Spoken:
    """Return an answer's text in its two parts, without the marks and the space around them.

    Marks further on, such as those that an answer about such models quotes, are text.
    """
    opening = _OPENING.search(text)
    if opening is not None and not text[: opening.start()].strip():
        start = opening.end()
        end = text.find(_MARKS[opening[0]], start)
        if end < 0:
            return Spoken(text[start:].strip(), "", thinking=True)
        stop = end + len(_MARKS[opening[0]])
        return Spoken(text[start:end].strip(), text[stop:].lstrip())
    closing = _CLOSING.search(text)
    if closing is None or (opening is not None and opening.start() < closing.start()):
        return Spoken("", text)
    return Spoken(text[: closing.start()].strip(), text[closing.end() :].lstrip())


def may_end_thought(text: str, since: int) -> bool:
    """Say whether a closing mark ends after an offset: cheap enough to ask for every token."""
    return _CLOSING.search(text, max(0, since - _LONGEST_CLOSING + 1)) is not None
