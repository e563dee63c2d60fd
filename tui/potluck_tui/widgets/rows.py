"""A table whose rows are lines of text; only lines that changed are drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from potluck_tui.keys import ROWS
from potluck_tui.scrolling import changed_regions
from potluck_tui.widgets.keys_in_order import run_in_order


@dataclass(frozen=True, slots=True)
class Row:
    """A line, and what it stands for."""

    key: str
    text: Text


class Rows(ScrollView, can_focus=True):
    """Lines below a heading, with a cursor that stays at its key wherever that moves to."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--heading", "rows--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in ROWS]

    class Moved(Message):
        """The cursor is at another key, or what stands there is another."""

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self._heading = Text()
        self._rows: Sequence[Row] = ()
        self._lines: list[Strip] = []
        self._cursor = 0

    @property
    def cursor_key(self) -> str:
        """What the cursor is at; empty where there is no row."""
        return self._rows[self._cursor].key if self._rows else ""

    def show(self, heading: Text, rows: Sequence[Row]) -> None:
        """Show other rows, and draw those that changed."""
        key = self.cursor_key
        keys = [row.key for row in rows]
        self._heading, self._rows = heading, rows
        self._cursor = keys.index(key) if key in keys else min(self._cursor, max(0, len(rows) - 1))
        self._draw()
        if self.cursor_key != key:
            self.post_message(self.Moved())

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        cursor = max(0, min(len(self._rows) - 1, self._cursor + rows))
        if cursor != self._cursor:
            self._cursor = cursor
            self._draw()
            self.post_message(self.Moved())

    def action_page(self, pages: int) -> None:
        """Move the cursor by a screen."""
        self.action_move(pages * max(1, self.size.height - 2))

    async def _on_key(self, event: events.Key) -> None:
        await run_in_order(self, event)

    def on_resize(self) -> None:
        """Draw all at the new width."""
        self._lines = []
        self._draw()

    def on_focus(self, _event: events.Focus) -> None:
        """Draw the cursor as one that keys move."""
        self._draw()

    def on_blur(self, _event: events.Blur) -> None:
        """Draw the cursor as one that keys do not move."""
        self._draw()

    def render_line(self, y: int) -> Strip:
        """Return a line of the window: the heading stays at its top."""
        number = y if y == 0 else y + self.scroll_offset.y
        blank = Strip.blank(self.size.width, self.rich_style)
        return self._lines[number] if number < len(self._lines) else blank

    def _draw(self) -> None:
        width = self.size.width
        if not width:
            return
        lines = [self._strip(self._heading, self.get_component_rich_style("rows--heading"))]
        for number, row in enumerate(self._rows):
            at_cursor = number == self._cursor
            style = self.get_component_rich_style("rows--cursor") if at_cursor else self.rich_style
            lines.append(self._strip(row.text, style))
        shown, self._lines = self._shown(), lines
        self.virtual_size = Size(width, len(lines))
        self._keep_cursor_in_view()
        for region in changed_regions(shown, self._shown(), width):
            self.refresh(region)

    def _shown(self) -> list[Strip]:
        """Return the lines of the window."""
        top = self.scroll_offset.y
        return [*self._lines[:1], *self._lines[top + 1 : top + self.size.height]]

    def _keep_cursor_in_view(self) -> None:
        height, top, line = self.size.height, self.scroll_offset.y, self._cursor + 1
        if line - top < 1:
            self.scroll_to(y=line - 1, animate=False, force=True)
        elif height and line - top >= height:
            self.scroll_to(y=line - height + 1, animate=False, force=True)

    def _strip(self, text: Text, style: Style) -> Strip:
        segments = text.render(self.app.console)
        strip = Strip(
            Segment(segment.text, style + (segment.style or Style.null()))
            for segment in segments
            if isinstance(segment.style, Style | None)
        )
        return strip.crop_extend(0, self.size.width, style)
