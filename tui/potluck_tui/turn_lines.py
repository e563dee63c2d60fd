"""One message as lines of the screen, with everything cached that cannot change.

A closed block of an answer is drawn once for each width; only the open tail of an answer under way
is drawn again when text comes. So a flush costs as much as its open block, however long the answer
is.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from potluck_proto.reasoning import Spoken, split_thought
from potluck_tui.captions import (
    ending_note,
    fact_lines,
    head_line,
    seam_line,
    thought_line,
    try_again,
)
from potluck_tui.clean import clean
from potluck_tui.growing_code import GrowingCode
from potluck_tui.highlight import marked
from potluck_tui.markdown_blocks import MarkdownBlocks
from potluck_tui.markdown_lines import lines_of, markdown_lines
from potluck_tui.views import AttachedFile, EndKind, Question, Speaker, Turn
from potluck_tui.words import counted, size

INDENT = 2
RIGHT_MARGIN = 1

LONGEST_QUESTION_LINES = 12
"""A longer question is folded, so that what was pasted does not bury the answer."""

BLANK = Strip([])
_INDENT_FRAME = Segment(" " * INDENT)
_SELECTED_FRAME = Segment("▌".ljust(INDENT), Style(color="cyan"))
_QUESTION_FRAME = Segment(">".ljust(INDENT), Style(bold=True))
_WAITING_FRAME = Segment("⋯".ljust(INDENT), Style(dim=True))
_NOTE_FRAME = Segment("↑".ljust(INDENT), Style(dim=True))


@dataclass(frozen=True, slots=True)
class Look:
    """How a message is shown, beside what it says."""

    width: int
    selected: bool = False
    unfolded: bool = False
    """With its thoughts, its files, and all of a long question."""
    headed: bool = False
    """With the model's name above: there is another answer."""
    words: tuple[str, ...] = ()
    """To mark, as a search found them."""


class AnswerLines:
    """An answer's Markdown, block by block.

    Contract: whatever pieces a text came in, it ends as the lines of the whole text.
    """

    def __init__(self) -> None:
        self._text = ""
        self._complete = False
        self._width = 0
        self._blocks = MarkdownBlocks()
        self._closed_lines: list[Strip] = []
        self._drawn_blocks = 0
        self._code: GrowingCode | None = None
        self._settled: dict[str, list[Strip]] = {}
        """Lines of the blocks of the tail but the last, which are likely to be closed so."""

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
        # An answer that goes on after its end may go on in its last block.
        goes_on = self._complete and not (complete and text == self._text)
        rewritten = goes_on or not text.startswith(self._text)
        self._complete = complete
        if rewritten:
            self._text = ""
            self._blocks = MarkdownBlocks()
        if rewritten or width != self._width:
            self._width = width
            self._closed_lines = []
            self._drawn_blocks = 0
            self._code = None
            self._settled = {}
        self._blocks.append(text[len(self._text) :])
        self._text = text
        if complete:
            self._blocks.finish()
        for block in self._blocks.closed[self._drawn_blocks :]:
            _add_block(self._closed_lines, self._drawn(block))
            self._code = None
        self._drawn_blocks = len(self._blocks.closed)
        lines = list(self._closed_lines)
        for drawn in self._tail_blocks(width):
            _add_block(lines, drawn)
        return lines

    def _tail_blocks(self, width: int) -> list[list[Strip]]:
        fence, tail = self._blocks.fence, self._blocks.tail
        if fence is None:
            self._code = None
            *settled, last = self._blocks.open
            self._settled = {block: self._drawn(block) for block in settled}
            return [*(self._settled[block] for block in settled), markdown_lines(last, width)]
        if self._code is None:
            self._code = GrowingCode(fence.language, width)
        return [self._code.lines(tail[fence.code_start :])]

    def _drawn(self, block: str) -> list[Strip]:
        lines = self._settled.get(block)
        return markdown_lines(block, self._width) if lines is None else lines


def _add_block(lines: list[Strip], block: list[Strip]) -> None:
    """Add the lines of a block after a blank one."""
    if block:
        if lines:
            lines.append(BLANK)
        lines.extend(block)


class TurnLines:
    """One message with what stands around it; drawn again only when it or its look changes."""

    def __init__(self) -> None:
        self._answer = AnswerLines()
        self._drawn: tuple[Turn, Look] | None = None
        self._lines: list[Strip] = []
        self._thought_seconds = 0.0

    def lines(self, turn: Turn, look: Look) -> list[Strip]:
        """Return the lines of a message."""
        if self._drawn != (turn, look):
            self._drawn = (turn, look)
            draw = self._answer_lines if turn.speaker is Speaker.MODEL else _question_lines
            lines = draw(turn, look)
            if look.words:
                lines = [marked(line, look.words) for line in lines]
            if look.selected:
                self._lines = [Strip([_SELECTED_FRAME, *line]) for line in lines]
            elif turn.speaker is Speaker.MODEL:
                self._lines = indented(lines)
            else:
                self._lines = indented(lines, _QUESTION_FRAME)
        return self._lines

    def _answer_lines(self, turn: Turn, look: Look) -> list[Strip]:
        width = _inner(look)
        spoken = split_thought(turn.text)
        lines: list[Strip] = []
        if look.headed:
            lines += lines_of(Text(head_line(turn), no_wrap=True), width, "bold dim")
        if spoken.thought:
            lines += self._thought_lines(turn, spoken, look)
        said = self._answer.lines(spoken.said, width, complete=not turn.under_way)
        if turn.under_way and not said and not spoken.thought:
            said = lines_of(Text(f"… {turn.progress or 'looking for a place'}"), width, "dim")
        _add_block(lines, said) if spoken.thought else lines.extend(said)
        return lines + _caption_lines(turn, width, silent=not (said or spoken.thought))

    def _thought_lines(self, turn: Turn, spoken: Spoken, look: Look) -> list[Strip]:
        if turn.ending is not None and turn.ending.thought_seconds:
            seconds = turn.ending.thought_seconds
        elif spoken.thinking or not self._thought_seconds:
            seconds = turn.latest_seconds - turn.begun_seconds if turn.begun_seconds else 0.0
            self._thought_seconds = seconds
        else:
            seconds = self._thought_seconds
        words = len(spoken.thought.split())
        thinking = spoken.thinking and turn.under_way
        line = thought_line(words, seconds, thinking=thinking, unfolded=look.unfolded)
        lines = lines_of(Text(line, no_wrap=True), _inner(look), "dim italic")
        if look.unfolded:
            lines += lines_of(Text(clean(spoken.thought)), _inner(look), "dim")
        return lines


def _question_lines(turn: Turn, look: Look) -> list[Strip]:
    place = f"{turn.place} " if turn.place else ""
    lines = _asked_lines(clean(turn.text), turn.files, _inner(look), place, "bold")
    if look.unfolded:
        for file in turn.files:
            lines += lines_of(Text(f"{file.name}:"), _inner(look), "bold dim")
            lines += lines_of(Text(clean(file.content).rstrip()), _inner(look), "dim")
    elif len(lines) > LONGEST_QUESTION_LINES:
        hidden = len(lines) - LONGEST_QUESTION_LINES + 1
        lines = lines[: LONGEST_QUESTION_LINES - 1]
        lines += lines_of(Text(f"▸ {hidden} more lines"), _inner(look), "dim italic")
    return lines


def _asked_lines(
    text: str, files: tuple[AttachedFile, ...], width: int, mark: str, style: str
) -> list[Strip]:
    """Return a question with a line for each file that goes with it."""
    lines = lines_of(Text.assemble((mark, "dim not bold"), text.rstrip()), width, style)
    for file in files:
        count = counted(len(file.content.splitlines()), "line")
        lines += lines_of(Text(f"+ {file.name}, {size(file.size_bytes)}, {count}"), width, "dim")
    return lines


def waiting_lines(question: Question, width: int) -> list[Strip]:
    """Return a prompt that waits for the answer under way."""
    inner = max(1, width - INDENT - RIGHT_MARGIN)
    lines = _asked_lines(clean(question.text), question.files, inner, "", "dim")
    if len(lines) >= LONGEST_QUESTION_LINES:
        lines[LONGEST_QUESTION_LINES - 1 :] = lines_of(Text("…"), inner, "dim")
    return indented(lines + lines_of(Text("(waits for the answer)"), inner, "dim"), _WAITING_FRAME)


def note_lines(words: str, width: int) -> list[Strip]:
    """Return a note above a chat."""
    return indented(lines_of(Text(words), width - INDENT - RIGHT_MARGIN, "dim"), _NOTE_FRAME)


def _caption_lines(turn: Turn, width: int, *, silent: bool) -> list[Strip]:
    lines: list[Strip] = []
    for move in turn.moves:
        lines += lines_of(Text(seam_line(turn.text, move)), width, "dim")
    ending = turn.ending
    if ending is not None and ending.kind is EndKind.FAILED:
        lines += lines_of(Text(f"✗ {ending.problem or 'It failed.'}"), width, "bold red")
        if ending.retryable:
            lines += lines_of(Text(try_again()), width, "red")
    elif ending is not None and (note := ending_note(ending)):
        lines += lines_of(Text(note), width, "yellow")
    elif ending is not None and silent:
        lines += lines_of(Text("The model ended its turn without a word."), width, "dim italic")
    if ending is not None and ending.not_stored:
        lines += lines_of(Text(f"Not stored: {ending.not_stored}"), width, "yellow")
    for line in fact_lines(turn, width):
        lines += lines_of(Text(line, no_wrap=True), width, "dim")
    return lines


def _inner(look: Look) -> int:
    """Return the columns of a message's text."""
    return max(1, look.width - INDENT - RIGHT_MARGIN)


def indented(lines: list[Strip], first: Segment = _INDENT_FRAME) -> list[Strip]:
    """Return lines set in, the first one behind a mark."""
    return [
        Strip([_INDENT_FRAME if number else first, *line]) if line.cell_length else line
        for number, line in enumerate(lines)
    ]
