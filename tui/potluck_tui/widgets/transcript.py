"""The widget that shows a chat: lines of a `Document` in a scrolling window."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.console import RenderableType
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from potluck_tui import scrolling
from potluck_tui.document import Document
from potluck_tui.views import Turn

FLUSH_SECONDS = 0.1
"""Text is drawn at most this often: faster is not read, and costs bytes and keys."""

COST_SHARE = 0.125
"""The share of time that drawing may take: a long open block is drawn less often."""


class Transcript(ScrollView, can_focus=True):
    """A chat, drawn from cached lines; only what changed is drawn again.

    It follows its end until somebody scrolls up, and again once they are back at the end. Lines are
    as wide as the widget: it never scrolls sideways.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Line up", id="transcript.up", show=False),
        Binding("down,j", "scroll_down", "Line down", id="transcript.down", show=False),
    ]

    class FollowingChanged(Message):
        """The view follows the end of the chat, or no longer does."""

        def __init__(self, following: bool) -> None:
            super().__init__()
            self.following = following

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self.following = True
        self._document = Document()
        self._turns: Sequence[Turn] = ()
        self._waiting: Sequence[str] = ()
        self._chat: object = None
        self._introduction: RenderableType | None = None
        self._flush_timer: Timer | None = None
        self._next_flush = 0.0
        self._placing = False

    def show(
        self,
        turns: Sequence[Turn],
        waiting: Sequence[str] = (),
        *,
        chat: object = None,
        introduction: RenderableType | None = None,
    ) -> None:
        """Show these turns, at once or with the next flush (see `Document.show`)."""
        if chat != self._chat:
            self._follow(True)
        self._turns, self._waiting = turns, waiting
        self._chat, self._introduction = chat, introduction
        if self._flush_timer is not None:
            return
        delay = self._next_flush - time.monotonic()
        if delay <= 0 or not self._growing:
            self._flush()
        else:
            self._flush_timer = self.set_timer(delay, self._flush)

    def to_end(self) -> None:
        """Scroll to the end and follow it."""
        self._follow(True)
        self._place()

    @property
    def _growing(self) -> bool:
        return bool(self._turns) and self._turns[-1].under_way

    def _flush(self) -> None:
        """Draw what changed since the last flush."""
        self._flush_timer = None
        if not self.size.width:
            return
        started = time.monotonic()
        top, height = self._top, self.size.height
        before = self._document.lines[top : top + height]
        self._document.show(
            self._turns, self._waiting, chat=self._chat, introduction=self._introduction
        )
        after = self._document.lines[top : top + height]
        self._place()
        regions = scrolling.changed_regions(before, after, self.size.width)
        if regions and self._top == top:
            self.refresh(*regions)
        finished = time.monotonic()
        self._next_flush = started + max(FLUSH_SECONDS, (finished - started) / COST_SHARE)

    def _place(self) -> None:
        """Make the view fit the lines."""
        arrange = scrolling.follow if self.following else scrolling.hold
        view = arrange(
            self._top, self.size.height, len(self._document.lines), growing=self._growing
        )
        self._placing = True
        extent = Size(self.size.width, view.extent)
        if extent != self.virtual_size:
            self.virtual_size = extent
        if view.top != self._top:
            self.scroll_to(y=view.top, animate=False, force=True)
        self._placing = False

    @property
    def _top(self) -> int:
        return self.scroll_offset.y

    def _follow(self, following: bool) -> None:
        if following != self.following:
            self.following = following
            self.post_message(self.FollowingChanged(following))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Notice that somebody scrolled; at the top, draw older turns."""
        super().watch_scroll_y(old_value, new_value)
        if self._placing:
            return
        self._follow(round(new_value) + self.size.height >= len(self._document.lines))
        if round(new_value) == 0 and new_value < old_value and self._document.show_earlier():
            count = len(self._document.lines)
            self._flush()
            self._placing = True
            self.scroll_to(y=len(self._document.lines) - count, animate=False, force=True)
            self._placing = False
            self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Draw everything at the new width."""
        if self._document.resize(event.size.width):
            self._flush()
            self.refresh()
        else:
            self._place()

    def render_line(self, y: int) -> Strip:
        """Return one line of the window."""
        index = self._top + y
        lines = self._document.lines
        line = lines[index] if index < len(lines) else Strip([])
        # Neighbours of one style become one segment: each costs an escape sequence.
        whole = line.crop_extend(0, self.size.width, None).apply_style(self.rich_style)
        return whole.simplify()
