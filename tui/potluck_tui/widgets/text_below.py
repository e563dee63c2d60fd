"""The text below a table: more on what is under the cursor."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static


class TextBelow(VerticalScroll, can_focus=False):
    """Scrolled where it is long; it is drawn again only when it changes."""

    def __init__(self) -> None:
        super().__init__(id="below")
        self._text = Static(markup=False)
        self._shown = Text()
        self._subject = ""

    def compose(self) -> ComposeResult:
        """Build the text."""
        yield self._text

    def show(self, text: Text, *, subject: str) -> None:
        """Show another text; from its start, where it is about another subject."""
        if subject != self._subject:
            self._subject = subject
            self.scroll_home(animate=False)
        if text != self._shown:
            self._shown = text
            self._text.update(text)

    def scroll_pages(self, pages: int) -> None:
        """Scroll by as much as shows, but a line."""
        self.scroll_relative(y=pages * (self.size.height - 1), animate=False)
