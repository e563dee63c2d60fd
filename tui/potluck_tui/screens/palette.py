"""The palette: whatever can be done or gone to, found by typing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from potluck_tui.keys import PALETTE, hints
from potluck_tui.palette import Entry, Target, matching
from potluck_tui.widgets.bars import KeyHints
from potluck_tui.widgets.line import Line

SHOWN_LIMIT = 100
"""More rows than that nobody reads; another letter finds them."""


class Palette(ModalScreen[Target | None]):
    """Closes with what was taken, or `None`.

    Args:
        entries: What there is.
    """

    PLACE = "palette"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in PALETTE]

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__()
        self._entries = entries
        self._shown: Sequence[Entry] = ()

    def compose(self) -> ComposeResult:
        """Build the line and the list."""
        with Vertical(classes="dialog -wide-dialog"):
            yield Line(placeholder="Do or go to: type some of its words")
            found = OptionList(markup=False, compact=True)
            found.can_focus = False
            yield found
            yield Static("Nothing here has these words.", id="none-found", markup=False)
            yield KeyHints(hints(PALETTE), widget_id="hints")

    def on_mount(self) -> None:
        """Show everything."""
        self.set_focus(self.query_one(Input))
        self._list()

    @on(Input.Changed)
    def filter_entries(self) -> None:
        """Show what matches."""
        self._list()

    @on(OptionList.OptionSelected)
    @on(Input.Submitted)
    def action_take(self) -> None:
        """Close with the row under the cursor."""
        at = self.query_one(OptionList).highlighted or 0
        self._list()  # keys may come faster than the filter is told of them
        if self._shown:
            self.dismiss(self._shown[min(at, len(self._shown) - 1)].target)

    def action_move(self, lines: int) -> None:
        """Move the cursor; the line keeps the focus."""
        found = self.query_one(OptionList)
        found.action_cursor_down() if lines > 0 else found.action_cursor_up()

    def action_close(self) -> None:
        """Close without one."""
        self.dismiss(None)

    def _list(self) -> None:
        shown = matching(self._entries, self.query_one(Input).value)[:SHOWN_LIMIT]
        self.query_one("#none-found").display = not shown
        if shown == self._shown:
            return
        self._shown = shown
        found = self.query_one(OptionList)
        found.clear_options()
        nothing = [Option("Nothing that can be done here is called so.", disabled=True)]
        found.add_options([Option(_row(entry)) for entry in shown] or nothing)
        found.highlighted = 0 if shown else None


def _row(entry: Entry) -> Text:
    row = Text(entry.words, no_wrap=True, overflow="ellipsis")
    return row.append(f"  {entry.keys}", "dim") if entry.keys else row
