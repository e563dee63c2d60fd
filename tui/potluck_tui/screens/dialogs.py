"""Small questions over the chat, and the help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.table import Table
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.visual import VisualType
from textual.widgets import Input, OptionList, Static

from potluck_tui.keys import ASK, CHOICES, CONFIRM, DETAILS, hints
from potluck_tui.widgets.bars import KeyHints
from potluck_tui.widgets.line import Line

WIDE_CELLS = 100
"""From here on there is room for more: the list of chats, the ids of keys."""


class Ask(ModalScreen[str | None]):
    """A question that a line of text answers; Esc gives `None`."""

    PLACE = "line of text"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in ASK]

    def __init__(self, question: str, text: str) -> None:
        super().__init__()
        self._question = question
        self._text = text

    def compose(self) -> ComposeResult:
        """Build the question and its line."""
        with Vertical(classes="dialog"):
            yield Static(self._question, markup=False)
            yield Line(self._text)
            yield KeyHints([("enter", "done"), *hints(ASK)], widget_id="hints")

    def on_mount(self) -> None:
        """Begin to type."""
        self.set_focus(self.query_one(Input))

    def action_close(self) -> None:
        """Close without a text."""
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the text."""
        self.dismiss(event.value)


class Choose(ModalScreen[int | None]):
    """A list of which one is taken, by Enter or by its number; Esc gives `None`.

    Args:
        question: What is chosen.
        rows: What there is.
    """

    PLACE = "choice"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in CHOICES]

    def __init__(self, question: str, rows: Sequence[str]) -> None:
        super().__init__()
        self._question = question
        self._rows = rows

    def compose(self) -> ComposeResult:
        """Build the list."""
        with Vertical(classes="dialog"):
            yield Static(self._question, classes="title", markup=False)
            rows = OptionList(markup=False, compact=True)
            rows.add_options(f"{number} {row}" for number, row in enumerate(self._rows, 1))
            yield rows
            yield KeyHints([("1-9,", ""), *hints(CHOICES)], widget_id="hints")

    def on_mount(self) -> None:
        """Begin at the first row."""
        rows = self.query_one(OptionList)
        rows.highlighted = 0
        self.set_focus(rows)

    def on_key(self, event: events.Key) -> None:
        """Take a row by its number."""
        if event.character and event.character.isdecimal():
            event.stop()
            number = int(event.character)
            if 1 <= number <= len(self._rows):
                self.dismiss(number - 1)

    @on(OptionList.OptionSelected)
    def action_take(self) -> None:
        """Close with the row under the cursor."""
        self.dismiss(self.query_one(OptionList).highlighted)

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        rows = self.query_one(OptionList)
        rows.action_cursor_down() if lines > 0 else rows.action_cursor_up()

    def action_close(self) -> None:
        """Close without one."""
        self.dismiss(None)


class Confirm(ModalScreen[bool | None]):
    """A question of yes or no. Enter is neither, as it is typed too easily."""

    PLACE = "question"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in CONFIRM]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Build the question."""
        with Vertical(classes="dialog"):
            yield Static(self._question, markup=False)
            yield KeyHints(hints(CONFIRM), widget_id="hints")

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)


class Details(ModalScreen[None]):
    """A text to read, scrolled where it is long."""

    PLACE = "page"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in DETAILS]

    def __init__(self, title: str, text: VisualType) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """Build the text."""
        with Vertical(classes="dialog -wide-dialog"):
            yield Static(self._title, classes="title", markup=False)
            with VerticalScroll():
                yield Static(self._text, markup=False)
            yield KeyHints(hints(DETAILS), widget_id="hints")

    def action_close(self) -> None:
        """Close."""
        self.dismiss(None)


def help_screen(place: str, rows: Sequence[tuple[str, ...]], cells: int) -> Details:
    """Return the help of a place.

    Args:
        place: Its name.
        rows: Keys, what they do, and the id by which they can be given others.
        cells: How wide the terminal is; the ids are left out of a narrow one.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", max_width=2 * cells // 5)
    table.add_column()
    columns = 3 if cells >= WIDE_CELLS else 2
    for row in rows:
        table.add_row(*row[:columns])
    return Details(f"Keys: {place}", table)
