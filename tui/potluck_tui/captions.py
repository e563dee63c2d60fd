"""The words around an answer: which branch, where it ran and why, how fast, how it ended."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size

from potluck_proto.reasoning import split_thought
from potluck_tui.keys import press
from potluck_tui.views import Ending, EndKind, Move, Turn, one_line

WORDS_BEFORE_SEAM = 24
"""Characters that say where in an answer it went on."""


def go_on() -> str:
    """Say how an answer that was cut can go on."""
    return f"Go on from here with {press('chat.read')}, then {press('message.go_on')}."


def try_again() -> str:
    """Say what can be done after a failure that may pass."""
    read = press("chat.read")
    again, on = press("message.again"), press("message.go_on")
    return f"Trying again may help: {read}, then {again}. Or go on from here: {read}, then {on}."


def head_line(turn: Turn) -> str:
    """Return the line above one of several answers: which it is, and the model.

    Of those that stand side by side, one has the chat go on from it.
    """
    note = "" if turn.shown else f"({press('message.take')}: go on from this one)"
    return " ".join(filter(None, (turn.place, turn.model, note)))


def facts(turn: Turn) -> list[str]:
    """Return what is known of an answer: node and reason, model, speed, first token, wait."""
    reason = [turn.reason] if turn.reason else []
    model = [turn.model] if turn.model and turn.model not in turn.reason else []
    return [*reason, *model, *(_figures(turn.ending) if turn.ending else [])]


def fact_lines(turn: Turn, width: int) -> list[str]:
    """Return the facts of an answer on as few lines as hold them."""
    lines: list[str] = []
    for fact in facts(turn):
        longer = f"{lines[-1]} · {fact}" if lines else fact
        if lines and cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(fitted(fact, width))
    return lines


def ending_note(ending: Ending) -> str:
    """Return what a reader should know of an ending that is neither complete nor failed."""
    match ending.kind:
        case EndKind.STOPPED:
            return f"Stopped. {go_on()}"
        case EndKind.TOKEN_LIMIT:
            return f"Cut here, at the limit of tokens for one answer. {go_on()}"
        case EndKind.CONTEXT_FULL:
            return (
                f"Cut here: the model's context is full. Start a new chat with {press('chat.new')}."
            )
        case _:
            return ""


def seam_line(text: str, move: Move) -> str:
    """Return where in an answer it went on, and why."""
    spoken = split_thought(text[: move.text_offset])
    before = one_line(spoken.said or spoken.thought)
    cut = "…" if len(before) > WORDS_BEFORE_SEAM else ""
    words = before[-WORDS_BEFORE_SEAM:]
    if cut and " " in words:
        words = words.partition(" ")[2]
    after = f"after “{cut}{words}” " if words else ""
    how = "" if move.exact else ", from its text alone"
    return f"↪ {after}{move.reason}, on {move.to_node}{how}"


def thought_line(words: int, seconds: float, *, thinking: bool, unfolded: bool) -> str:
    """Return the line that stands for what a model thought.

    Args:
        words: How much it was.
        seconds: How long it took; 0 where nobody knows.
        thinking: It goes on still.
        unfolded: The thoughts stand below.
    """
    verb = "thinking" if thinking else "thought"
    duration = f" for {seconds:.0f} s" if seconds >= 9.95 else f" for {seconds:.1f} s"
    mark = "▾" if unfolded else "▸"
    return f"{mark} {verb}{duration if seconds else ''}, {words} words"


def _figures(ending: Ending) -> Iterator[str]:
    if ending.tokens_per_second:
        speed = ending.tokens_per_second
        yield f"{speed:.0f} tokens/s" if speed >= 9.95 else f"{speed:.1f} tokens/s"
    if seconds := ending.time_to_first_token_seconds:
        words = f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
        yield f"first after {words}"
    if ending.queue_seconds >= 0.05:
        yield f"waited {ending.queue_seconds:.1f} s"


def fitted(text: str, width: int) -> str:
    """Return a text of at most `width` cells, with an ellipsis where it was cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…" if width > 0 else ""
