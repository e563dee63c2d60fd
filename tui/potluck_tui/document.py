"""The transcript as lines of the screen, with everything cached that cannot change.

A closed block of an answer is drawn once for each width; only the open tail of the answer under
way is drawn again when text comes. So a flush costs as much as its open block, however long the
chat is.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from potluck_tui.captions import TRY_AGAIN, ending_note, reason_line
from potluck_tui.clean import clean
from potluck_tui.markdown_blocks import MarkdownBlocks
from potluck_tui.markdown_lines import lines_of, markdown_lines
from potluck_tui.views import EndKind, Speaker, Turn

INDENT = 2
RIGHT_MARGIN = 1

TURNS_AT_FIRST = 40
"""Only the newest turns of a long chat are drawn before somebody scrolls up to the others."""

_BLANK = Strip([])
_INDENT_SEGMENT = Segment(" " * INDENT)


class AnswerLines:
    """An answer, block by block.

    Contract: whatever pieces a text came in, it ends as the lines of the whole text.
    """

    def __init__(self) -> None:
        self._text = ""
        self._width = 0
        self._closed_lines: list[Strip] = []
        self._drawn_blocks = 0
        self._blocks = MarkdownBlocks()

    def lines(self, text: str, width: int, *, complete: bool) -> list[Strip]:
        """Return the lines of an answer's text.

        Args:
            text: As it came from the model; cleaned here.
            width: Columns.
            complete: No more text will come.
        """
        if not complete:
            # The line end that may follow is part of it.
            text = text.removesuffix("\r")
        text = clean(text)
        rewritten = not text.startswith(self._text)
        if rewritten:
            self._text = ""
            self._blocks = MarkdownBlocks()
        if rewritten or width != self._width:
            self._width = width
            self._closed_lines = []
            self._drawn_blocks = 0
        self._blocks.append(text[len(self._text) :])
        self._text = text
        if complete:
            self._blocks.finish()
        for block in self._blocks.closed[self._drawn_blocks :]:
            _add_block(self._closed_lines, markdown_lines(block, width))
        self._drawn_blocks = len(self._blocks.closed)
        lines = list(self._closed_lines)
        _add_block(lines, markdown_lines(self._blocks.tail, width))
        return lines


def _add_block(lines: list[Strip], block: list[Strip]) -> None:
    """Add the lines of a block after a blank one."""
    if block:
        if lines:
            lines.append(_BLANK)
        lines.extend(block)


class _Part:
    """One turn with its caption, as lines; drawn again only when the turn or the width changes."""

    def __init__(self) -> None:
        self._answer = AnswerLines()
        self._drawn: tuple[Turn, int] | None = None
        self._lines: list[Strip] = []

    def lines(self, turn: Turn, width: int) -> list[Strip]:
        """Return the lines of a turn, the blank one after it included."""
        if self._drawn != (turn, width):
            self._drawn = (turn, width)
            draw = self._draw_answer if turn.speaker is Speaker.MODEL else _prompt_lines
            self._lines = [*draw(turn, width), _BLANK]
        return self._lines

    def _draw_answer(self, turn: Turn, width: int) -> list[Strip]:
        inner = max(1, width - INDENT - RIGHT_MARGIN)
        lines = self._answer.lines(turn.text, inner, complete=turn.ending is not None)
        if turn.under_way and not lines:
            lines = lines_of(Text(f"… {turn.progress or 'looking for a place'}"), inner, "dim")
        lines += _caption_lines(turn, inner, first=not lines)
        return [_indented(line) for line in lines]


def _caption_lines(turn: Turn, width: int, *, first: bool) -> list[Strip]:
    lines: list[Strip] = []
    for move in turn.moves:
        how = "" if move.exact else ", from its text alone"
        lines += lines_of(Text(f"↪ went on at {move.to_node}: {move.reason}{how}"), width, "dim")
    ending = turn.ending
    if ending is not None and ending.kind is EndKind.FAILED:
        lines += lines_of(Text(f"✗ {ending.problem or 'It failed.'}"), width, "bold red")
        if ending.retryable:
            lines += lines_of(Text(TRY_AGAIN), width, "red")
    elif ending is not None and (note := ending_note(ending)):
        lines += lines_of(Text(note), width, "yellow")
    elif ending is not None and first:
        lines += lines_of(Text("The model ended its turn without a word."), width, "dim italic")
    if ending is not None and ending.not_stored:
        lines += lines_of(Text(f"Not stored: {ending.not_stored}"), width, "yellow")
    if reason := reason_line(turn, width):
        lines += lines_of(Text(reason, no_wrap=True), width, "dim")
    return lines


def _prompt_lines(turn: Turn, width: int) -> list[Strip]:
    return _marked(clean(turn.text), width, ">", "bold")


def _marked(text: str, width: int, mark: str, style: str) -> list[Strip]:
    """Return wrapped text with a mark before its first line."""
    lines = lines_of(Text(text.rstrip()), width - INDENT - RIGHT_MARGIN, style)
    first = Strip([Segment(f"{mark} ", Style.parse(style)), *lines[0]])
    return [first, *(_indented(line) for line in lines[1:])]


def _indented(strip: Strip) -> Strip:
    return Strip([_INDENT_SEGMENT, *strip]) if strip.cell_length else strip


class Document:
    """All lines of a chat at a width."""

    def __init__(self, width: int = 80) -> None:
        self.lines: list[Strip] = []
        self.hidden_turns = 0
        """Older turns that are not among the lines; see `show_earlier`."""
        self._width = width
        self._parts: list[_Part] = []
        self._chat: object = None

    def show(
        self,
        turns: Sequence[Turn],
        waiting: Sequence[str] = (),
        *,
        chat: object = None,
        introduction: RenderableType | None = None,
    ) -> None:
        """Make `lines` those of these turns.

        Args:
            turns: The chat, oldest first.
            waiting: Prompts that have not been sent yet.
            chat: What tells one chat from another: caches are dropped when it changes.
            introduction: Stands in a chat without turns.
        """
        if chat != self._chat or len(turns) < len(self._parts):
            self._chat = chat
            self._parts = []
        if not self._parts:
            self.hidden_turns = max(0, len(turns) - TURNS_AT_FIRST)
        self._parts += [_Part() for _ in range(len(turns) - len(self._parts))]
        lines: list[Strip] = []
        if self.hidden_turns:
            words = f"{self.hidden_turns} earlier messages: scroll up to read them."
            lines += [*_marked(words, self._width, "↑", "dim"), _BLANK]
        for index in range(self.hidden_turns, len(turns)):
            lines += self._parts[index].lines(turns[index], self._width)
        for text in waiting:
            lines += _marked(f"{clean(text)}\n(waits for the answer)", self._width, "⋯", "dim")
            lines.append(_BLANK)
        if not turns and introduction is not None:
            inner = self._width - INDENT - RIGHT_MARGIN
            lines += [_indented(line) for line in lines_of(introduction, inner)]
        self.lines = lines

    def resize(self, width: int) -> bool:
        """Take a new width, for the next `show`; say whether it is another."""
        changed = width != self._width
        self._width = width
        return changed

    def show_earlier(self) -> bool:
        """Have the next `show` draw more of the older turns; say whether there are any."""
        had_more = self.hidden_turns > 0
        self.hidden_turns = max(0, self.hidden_turns - TURNS_AT_FIRST)
        return had_more
