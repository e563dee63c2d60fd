"""The words under an answer: where it ran and why, how fast, and how it ended."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from potluck_tui.views import Ending, EndKind, Turn

TRY_AGAIN = "Trying again may help: press up in the empty prompt to get the question back."


def reason_line(turn: Turn, width: int) -> str:
    """Return the one line under an answer.

    Where the line is too short, the model's name goes first (the status line has it), then the end
    of the reason; the figures stay whole.

    Args:
        turn: An answer.
        width: Columns of the line.
    """
    figures = _figures(turn.ending) if turn.ending is not None else []
    model = [turn.model] if turn.model and turn.model not in turn.reason else []
    reason = [turn.reason] if turn.reason else []
    whole = " · ".join([*reason, *model, *figures])
    if cell_len(whole) <= width:
        return whole
    tail = " · ".join(figures)
    room = width - cell_len(tail) - 3
    if not reason or not tail or room < 8:
        return _fitted(" · ".join([*figures, *reason, *model]), width)
    return f"{_fitted(turn.reason, room)} · {tail}"


def ending_note(ending: Ending) -> str:
    """Return what a reader should know of an ending that is neither complete nor failed."""
    match ending.kind:
        case EndKind.STOPPED:
            return "Stopped."
        case EndKind.TOKEN_LIMIT:
            return "Cut here: the limit of tokens for one answer was reached."
        case EndKind.CONTEXT_FULL:
            return "Cut here: the model's context is full. Start a new chat with ctrl+n."
        case _:
            return ""


def _figures(ending: Ending) -> list[str]:
    figures = []
    if ending.tokens_per_second:
        speed = ending.tokens_per_second
        figures.append(f"{speed:.0f} tokens/s" if speed >= 9.95 else f"{speed:.1f} tokens/s")
    if ending.time_to_first_token_seconds:
        figures.append(f"first after {ending.time_to_first_token_seconds:.1f} s")
    return figures


def _fitted(text: str, width: int) -> str:
    """Return a text of at most `width` cells, with an ellipsis where it was cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…" if width > 0 else ""
