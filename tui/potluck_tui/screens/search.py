"""The search over all chats: hits while one types."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from potluck_tui.keys import SEARCH, hints
from potluck_tui.library import Library
from potluck_tui.screens.live import Live
from potluck_tui.session import Session
from potluck_tui.views import NO_MESSAGE, Hit
from potluck_tui.widgets.bars import KeyHints
from potluck_tui.widgets.line import Line
from potluck_tui.words import counted

PAUSE_SECONDS = 0.15
"""A search begins this long after the last key."""


class SearchScreen(ModalScreen[int | None], Live):
    """Closes with the number of a hit, or `None`.

    Args:
        library: Has the query and its hits; `show_news` says that there are others.
        search: Begins another search.
    """

    PLACE = "search"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in SEARCH]

    def __init__(self, library: Library, search: Callable[[str], None]) -> None:
        super().__init__()
        self._library = library
        self._search = search
        self._pause: Timer | None = None
        self._shown: tuple[Hit, ...] = ()
        self._wanted = False
        """Enter came before the hits: the first one is shown when they are there."""

    def compose(self) -> ComposeResult:
        """Build the line and the list of hits."""
        with Vertical(classes="dialog -wide-dialog"):
            yield Line(self._library.query, "Search all chats")
            found = OptionList(markup=False, compact=True)
            found.can_focus = False
            yield found
            yield Static(id="search-count", markup=False)
            yield KeyHints(hints(SEARCH), widget_id="hints")

    def on_mount(self) -> None:
        """Show what the last search found."""
        self.set_focus(self.query_one(Input))
        self._draw()
        if self._library.hit_number >= 0:
            self.query_one(OptionList).highlighted = self._library.hit_number

    def show_news(self, session: Session) -> None:
        """Show what there is now."""
        self._draw()

    def _draw(self) -> None:
        library = self._library
        # What the last search found stays until the next one has ended.
        if library.hits != self._shown and (library.hits_known or not library.query):
            self._list(library.hits)
        self.query_one("#search-count", Static).update(_count(library))
        if self._wanted and library.hits_known:
            self._wanted = False
            self.action_show()

    def _list(self, hits: tuple[Hit, ...]) -> None:
        """List hits; a cursor that was moved stays on its hit."""
        found = self.query_one(OptionList)
        moved_to = self._shown[found.highlighted] if found.highlighted else None
        self._shown = hits
        found.clear_options()
        found.add_options([Option(found_row(hit, self.app.size.width)) for hit in hits])
        places = [(hit.chat_id, hit.message_id) for hit in hits]
        same = moved_to and (moved_to.chat_id, moved_to.message_id)
        found.highlighted = places.index(same) if same in places else 0 if hits else None

    @on(Input.Changed)
    def wait_for_a_pause(self) -> None:
        """Search once the typing pauses."""
        if self._pause is not None:
            self._pause.stop()
        self._wanted = False
        self._pause = self.set_timer(PAUSE_SECONDS, self._begin)

    def _begin(self) -> None:
        self._search(self.query_one(Input).value)

    @on(OptionList.OptionSelected)
    @on(Input.Submitted)
    def action_show(self) -> None:
        """Close with the hit under the cursor, once the search for what is typed has ended."""
        library = self._library
        if self.query_one(Input).value.strip() != library.query or not library.hits_known:
            self._wanted = True
            self._begin()
        elif library.hits:
            self.dismiss(self.query_one(OptionList).highlighted)

    def action_move(self, lines: int) -> None:
        """Move the cursor; the line keeps the focus."""
        found = self.query_one(OptionList)
        found.action_cursor_down() if lines > 0 else found.action_cursor_up()

    def action_close(self) -> None:
        """Close without a hit."""
        self.dismiss(None)


def found_row(hit: Hit, cells: int) -> Text:
    """Return a hit as its chat's title and, for a message, what stands around the words.

    Args:
        hit: The hit.
        cells: How wide the terminal is; what stands before the words takes half of it at most.
    """
    row = Text(hit.title, style="bold", no_wrap=True, overflow="ellipsis")
    if hit.message_id != NO_MESSAGE:
        row.append("\n  ", "not bold")
        for number, (text, match) in enumerate(hit.snippet):
            shown = _end(text, cells // 2) if number == 0 and not match else text
            row.append(shown, "reverse not bold" if match else "not bold")
    return row


def _end(text: str, cells: int) -> str:
    """Return the end of a text, with an ellipsis where it was cut."""
    if cell_len(text) <= cells:
        return text
    kept = text[-(cells - 1) :]
    return f"…{kept.partition(' ')[2] or kept}"


def _count(library: Library) -> str:
    if not library.query:
        return "Words of titles and messages; “words in quotes” stand together."
    if library.hits_known:
        return counted(len(library.hits), "hit")
    return "searching…"
