"""Telling somebody who looks elsewhere that a long answer has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from potluck_proto.ids import ChatId, GenerationId
from potluck_tui.preferences import Notice

_TERMINALS = {
    "kitty": Notice.OSC99,
    "ghostty": Notice.OSC9,
    "iterm.app": Notice.OSC9,
    "wezterm": Notice.OSC9,
    "xterm-ghostty": Notice.OSC9,
    "xterm-kitty": Notice.OSC99,
}
"""By TERM or TERM_PROGRAM, in lower case. Others may show such a sequence as text."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """An answer under way, and when it was first seen."""

    generation_id: GenerationId
    seconds: float


class LongAnswers:
    """Notices when answers end that took long, in whichever chat.

    Args:
        long_seconds: What is long.
    """

    def __init__(self, long_seconds: float = 10.0) -> None:
        self.long_seconds = long_seconds
        self._under_way: dict[ChatId, _UnderWay] = {}

    def seen(self, active: Mapping[ChatId, GenerationId], seconds: float) -> list[ChatId]:
        """Return the chats whose long answer has ended.

        Args:
            active: The answer under way in each chat that has one.
            seconds: When that is, by a clock that only goes forward.
        """
        before = self._under_way
        self._under_way = {
            chat_id: known
            if (known := before.get(chat_id)) and known.generation_id == generation_id
            else _UnderWay(generation_id, seconds)
            for chat_id, generation_id in active.items()
        }
        return [
            chat_id
            for chat_id, answer in before.items()
            if self._under_way.get(chat_id) != answer
            and seconds - answer.seconds >= self.long_seconds
        ]


def suited(notice: Notice, environment: Mapping[str, str]) -> Notice:
    """Return the kind of notice that a terminal understands, where none was chosen."""
    if notice is not Notice.AUTO:
        return notice
    if environment.get("TMUX"):  # it keeps sequences to itself, and passes the bell on
        return Notice.BELL
    names = (environment.get("TERM_PROGRAM", ""), environment.get("TERM", ""))
    known = (_TERMINALS.get(name.lower()) for name in names)
    return next(filter(None, known), Notice.BELL)


def sequence(notice: Notice, words: str) -> str:
    """Return what to write to the terminal. The words hold no control characters."""
    match notice:
        case Notice.OSC9:
            return f"\x1b]9;{words}\x07"
        case Notice.OSC99:
            return f"\x1b]99;;{words}\x1b\\"
        case Notice.NONE:
            return ""
    return "\x07"
