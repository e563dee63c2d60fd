"""The transcript as lines of the screen: messages below each other, some answers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.console import RenderableType
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from potluck_proto.ids import MessageId
from potluck_tui.markdown_lines import lines_of
from potluck_tui.turn_lines import (
    BLANK,
    INDENT,
    RIGHT_MARGIN,
    Look,
    TurnLines,
    indented,
    note_lines,
    waiting_lines,
)
from potluck_tui.views import NO_MESSAGE, Question, Turn

TURNS_AT_FIRST = 40
"""Only the newest turns of a long chat are drawn before somebody scrolls up to the others."""

BESIDE_WIDTH = 120
"""From here on, answers to one question stand in columns; below it, one above the other."""

_RULE = Segment("│", Style(dim=True))


@dataclass(frozen=True, slots=True)
class View:
    """What a reader chose to see of a chat."""

    selected: MessageId = NO_MESSAGE
    unfolded: frozenset[MessageId] = frozenset()
    words: tuple[str, ...] = ()
    """To mark."""


class Document:
    """All lines of a chat at a width."""

    def __init__(self, width: int = 80) -> None:
        self.lines: list[Strip] = []
        self.places: dict[MessageId, range] = {}
        """The lines of each message that is drawn."""
        self.hidden_turns = 0
        """Older turns that are not among the lines; see `show_earlier`."""
        self._width = width
        self._parts: dict[MessageId, TurnLines] = {}
        self._chat: object = None

    def show(
        self,
        turns: Sequence[Turn],
        waiting: Sequence[Question] = (),
        *,
        view: View = View(),
        chat: object = None,
        introduction: RenderableType | None = None,
    ) -> None:
        """Make `lines` those of these turns.

        Args:
            turns: The chat, oldest first.
            waiting: Prompts that have not been sent yet.
            view: What a reader chose to see.
            chat: What tells one chat from another: caches are dropped when it changes.
            introduction: Stands in a chat without turns.
        """
        if chat != self._chat:
            self._chat = chat
            self._parts = {}
        older = max(0, len(turns) - TURNS_AT_FIRST)
        self.hidden_turns = min(self.hidden_turns, older) if self._parts else older
        lines: list[Strip] = []
        if self.hidden_turns:
            words = f"{self.hidden_turns} earlier messages: scroll up to read them."
            lines += [*note_lines(words, self._width), BLANK]
        self.places = {}
        for group in _groups(turns[self.hidden_turns :]):
            drawn = self._group_lines(group, view)
            for turn in group:
                self.places[turn.message_id] = range(len(lines), len(lines) + len(drawn))
            lines += [*drawn, BLANK]
        for question in waiting:
            lines += [*waiting_lines(question, self._width), BLANK]
        if not turns and introduction is not None:
            lines += indented(lines_of(introduction, self._width - INDENT - RIGHT_MARGIN))
        self.lines = lines

    def _group_lines(self, group: list[Turn], view: View) -> list[Strip]:
        """Return the lines of a message, or of the answers that stand side by side."""
        if len(group) == 1 or self._width < BESIDE_WIDTH:
            lines: list[Strip] = []
            for turn in group:
                if lines:
                    lines.append(BLANK)
                lines += self._turn_lines(turn, view, self._width, headed=len(group) > 1)
            return lines
        width = (self._width - len(group) + 1) // len(group)
        columns = [self._turn_lines(turn, view, width, headed=True) for turn in group]
        return [_side_by_side(row, width) for row in zip_longest(*columns, fillvalue=BLANK)]

    def _turn_lines(self, turn: Turn, view: View, width: int, *, headed: bool) -> list[Strip]:
        message_id = turn.message_id
        look = Look(
            width=width,
            selected=message_id == view.selected,
            unfolded=message_id in view.unfolded,
            headed=headed or (bool(turn.place) and bool(turn.generation_id)),
            words=view.words,
        )
        return self._parts.setdefault(message_id, TurnLines()).lines(turn, look)

    def resize(self, width: int) -> bool:
        """Take a new width, for the next `show`; say whether it is another."""
        changed = width != self._width
        self._width = width
        return changed

    def reveal(self, number: int) -> None:
        """Have the next `show` draw the turn of that number too."""
        self.hidden_turns = min(self.hidden_turns, number)

    def show_earlier(self) -> bool:
        """Have the next `show` draw more of the older turns; say whether there are any."""
        had_more = self.hidden_turns > 0
        self.hidden_turns = max(0, self.hidden_turns - TURNS_AT_FIRST)
        return had_more


def _groups(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    """Yield messages one by one, and answers that stand side by side together."""
    group: list[Turn] = []
    for turn in turns:
        if group and turn.is_beside(group[0]):
            group.append(turn)
            continue
        if group:
            yield group
        group = [turn]
    if group:
        yield group


def _side_by_side(row: Sequence[Strip], width: int) -> Strip:
    """Return lines of columns as one line, with a rule between each two."""
    segments: list[Segment] = []
    for number, cell in enumerate(row):
        if number:
            segments.append(_RULE)
        last = number == len(row) - 1
        segments += cell if last else cell.adjust_cell_length(width)
    return Strip(segments)
