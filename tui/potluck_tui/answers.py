"""What happens to an answer under way, as a function of the turn that shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from potluck_tui.events import (
    AnswerEnded,
    AnswerMoved,
    AnswerPlaced,
    AnswerProgress,
    AnswerText,
)
from potluck_tui.views import Turn

AnswerEvent = AnswerPlaced | AnswerProgress | AnswerText | AnswerMoved | AnswerEnded


def after(turn: Turn, event: AnswerEvent) -> Turn:
    """Return the turn after something happened to its answer."""
    match event:
        case AnswerPlaced(_, reason, model, moves):
            return replace(
                turn,
                reason=reason or turn.reason,
                model=model or turn.model,
                moves=turn.moves if moves is None else moves,
            )
        case AnswerProgress(_, words):
            return replace(turn, progress=words)
        case AnswerText(_, offset, text, seconds):
            # What is known already is dropped: another look at the chat may have brought it.
            return replace(
                turn,
                text=turn.text + text[max(0, len(turn.text) - offset) :],
                progress="",
                begun_seconds=turn.begun_seconds or (0.0 if offset else seconds),
                latest_seconds=seconds,
            )
        case AnswerMoved(_, move):
            return replace(turn, moves=(*turn.moves, move))
        case AnswerEnded(_, ending):
            return replace(turn, ending=ending, progress="")
        case _:
            assert_never(event)


def newest(known: Turn | None, read: Turn) -> Turn:
    """Return an answer that was read anew with what is known of it besides.

    An answer under way only grows: of two readings of it, the longer text is the later one, and one
    without a place is the earlier.
    """
    if known is None or not (known.under_way and read.under_way):
        return read
    return replace(
        read,
        text=max(known.text, read.text, key=len),
        model=read.model or known.model,
        reason=read.reason or known.reason,
        progress=known.progress,
        begun_seconds=known.begun_seconds,
        latest_seconds=known.latest_seconds,
    )
