"""The widget that shows a chat: lines of a `Document` in a scrolling window."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.console import RenderableType
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from potluck_proto.ids import MessageId
from potluck_tui import scrolling
from potluck_tui.document import Document, View
from potluck_tui.highlight import holds
from potluck_tui.keys import TRANSCRIPT
from potluck_tui.views import NO_MESSAGE, Question, Turn
from potluck_tui.widgets.keys_in_order import run_in_order

FLUSH_SECONDS = 0.1
"""Text is drawn at most this often: faster is not read, and costs bytes and keys."""

COST_SHARE = 0.125
"""The share of time that drawing may take: a long open block is drawn less often."""


class Transcript(ScrollView, can_focus=True):
    """A chat, drawn from cached lines; only what changed is drawn again.

    It follows its end until somebody scrolls up, and again once they are back at the end. While it
    has the focus, one message is selected: the keys act on it. Lines are as wide as the widget: it
    never scrolls sideways.
    """

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in TRANSCRIPT]

    class FollowingChanged(Message):
        """The view follows the end of the chat, or no longer does."""

        def __init__(self, following: bool) -> None:
            super().__init__()
            self.following = following

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self.following = True
        self.selected = NO_MESSAGE
        self._document = Document()
        self._view = View()
        self._turns: Sequence[Turn] = ()
        self._waiting: Sequence[Question] = ()
        self._chat: object = None
        self._introduction: RenderableType | None = None
        self._flush_timer: Timer | None = None
        self._next_flush = 0.0
        self._placing = False

    # --- Showing ---------------------------------------------------------------------------------

    def show(
        self,
        turns: Sequence[Turn],
        waiting: Sequence[Question] = (),
        *,
        chat: object = None,
        introduction: RenderableType | None = None,
    ) -> None:
        """Show these turns, at once or with the next flush (see `Document.show`)."""
        if chat != self._chat:
            self._follow(True)
            self.selected = NO_MESSAGE
        selected = self.selected_turn
        self._turns, self._waiting = turns, waiting
        self._chat, self._introduction = chat, introduction
        if selected is not None and self.selected_turn is None:
            self.selected = _in_the_place_of(selected, turns)
        if self._flush_timer is not None:
            return
        delay = self._next_flush - time.monotonic()
        if delay <= 0 or not self._growing:
            self._flush()
        else:
            self._flush_timer = self.set_timer(delay, self._flush)

    def mark(self, words: Sequence[str]) -> None:
        """Mark words wherever they stand."""
        self._look(replace(self._view, words=tuple(words)))

    def to_end(self) -> None:
        """Scroll to the end and follow it."""
        self._follow(True)
        self._place()

    def show_message(self, message_id: MessageId) -> None:
        """Select a message and scroll to it: to the first marked word in it, if there is one."""
        numbers = [n for n, turn in enumerate(self._turns) if turn.message_id == message_id]
        if not numbers:
            return
        self._document.reveal(numbers[0])
        self._follow(False)
        self.selected = message_id
        self._flush()
        goal = self._first_marked(message_id)
        if goal is None and self._view.words:
            self._look(replace(self._view, unfolded=self._view.unfolded | {message_id}))
            goal = self._first_marked(message_id)
        if goal is None:
            goal = self._document.places[message_id].start
        self._scroll(max(0, goal - self.size.height // 3))

    def await_in_its_place(self, message_id: MessageId) -> None:
        """Select a message that will stand where the selected one stands, and stay there."""
        self.selected = message_id
        self._follow(False)

    def _first_marked(self, message_id: MessageId) -> int | None:
        """Return the first line of a message that has a marked word."""
        lines, words = self._document.lines, self._view.words
        place = self._document.places[message_id]
        return next((n for n in place if words and holds(lines[n], words)), None)

    @property
    def _growing(self) -> bool:
        return any(turn.under_way for turn in self._turns[-2:])

    def _flush(self) -> None:
        """Draw what changed since the last flush."""
        if self._flush_timer is not None:
            self._flush_timer.stop()
            self._flush_timer = None
        if not self.size.width:
            return
        started = time.monotonic()
        top, height = self._top, self.size.height
        before = self._document.lines[top : top + height]
        selected = self.selected if self.has_focus else NO_MESSAGE
        self._document.show(
            self._turns,
            self._waiting,
            view=replace(self._view, selected=selected),
            chat=self._chat,
            introduction=self._introduction,
        )
        after = self._document.lines[top : top + height]
        self._place()
        regions = scrolling.changed_regions(before, after, self.size.width)
        if regions and self._top == top:
            self.refresh(*regions)
        finished = time.monotonic()
        self._next_flush = started + max(FLUSH_SECONDS, (finished - started) / COST_SHARE)

    def _look(self, view: View) -> None:
        """Show the chat in another way."""
        if view != self._view:
            self._view = view
            self._flush()

    # --- Selecting -------------------------------------------------------------------------------

    async def _on_key(self, event: events.Key) -> None:
        await run_in_order(self, event)

    @property
    def selected_turn(self) -> Turn | None:
        """The message that the keys act on."""
        return next((turn for turn in self._turns if turn.message_id == self.selected), None)

    def select_last(self) -> None:
        """Select the last message that shows, unless one is selected."""
        if self.selected_turn is None:
            self._flush()  # what came last may not be drawn yet
            places = self._document.places
            bottom = self._top + self.size.height
            seen = [message_id for message_id, place in places.items() if place.start < bottom]
            shown = {turn.message_id for turn in self._turns if turn.shown}
            self.selected = next((i for i in reversed(seen) if i in shown), NO_MESSAGE)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show what is selected, or no longer."""
        super().watch_has_focus(has_focus)
        if has_focus:
            self.select_last()
        self._flush()

    def action_select(self, step: int) -> None:
        """Go to the message before or after; through a tall one, by less than a page."""
        place = self._document.places.get(self.selected)
        if place is None:
            return
        bottom, page = self._top + self.size.height, max(1, self.size.height - 2)
        if step > 0 and place.stop > bottom:
            self._scroll(self._top + min(page, place.stop - bottom))
        elif step < 0 and place.start < self._top:
            self._scroll(self._top - min(page, self._top - place.start))
        else:
            self._select_next(step)

    def _select_next(self, step: int) -> None:
        if step < 0 and self.selected == next(iter(self._document.places)):
            self._document.show_earlier()
            self._flush()
        ids = list(self._document.places)
        at = ids.index(self.selected) + step
        if not 0 <= at < len(ids):
            self._scroll(len(self._document.lines) if step > 0 else 0)
            return
        self.selected = ids[at]
        self._flush()
        place = self._document.places[self.selected]
        if step > 0 and place.stop > self._top + self.size.height:
            self._scroll(min(place.start, place.stop - self.size.height))
        elif step < 0 and place.start < self._top:
            self._scroll(max(place.start, place.stop - self.size.height))

    def action_fold(self) -> None:
        """Show thoughts, files and all of a long question, or no longer."""
        if self.selected_turn is not None:
            unfolded = self._view.unfolded ^ {self.selected}
            self._look(replace(self._view, unfolded=unfolded))

    # --- Scrolling -------------------------------------------------------------------------------

    def _scroll(self, top: int) -> None:
        self.scroll_to(y=top, animate=False, force=True)

    def _place(self) -> None:
        """Make the view fit the lines."""
        arrange = scrolling.follow if self.following else scrolling.hold
        window = arrange(
            self._top, self.size.height, len(self._document.lines), growing=self._growing
        )
        self._placing = True
        extent = Size(self.size.width, window.extent)
        if extent != self.virtual_size:
            self.virtual_size = extent
        if window.top != self._top:
            self._scroll(window.top)
        self._placing = False
        awaits = self.selected != NO_MESSAGE and self.selected_turn is None
        if not (self.following or awaits):
            self._follow(self._shows_the_end)

    @property
    def _top(self) -> int:
        return self.scroll_offset.y

    @property
    def _shows_the_end(self) -> bool:
        return self._top + self.size.height >= len(self._document.lines)

    def _follow(self, following: bool) -> None:
        if following != self.following:
            self.following = following
            self.post_message(self.FollowingChanged(following))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Notice that somebody scrolled; at the top, draw older turns."""
        super().watch_scroll_y(old_value, new_value)
        if self._placing:
            return
        self._follow(self._shows_the_end)
        if round(new_value) == 0 and new_value < old_value and self._document.show_earlier():
            count = len(self._document.lines)
            self._flush()
            self._placing = True
            self._scroll(len(self._document.lines) - count)
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


def _in_the_place_of(gone: Turn, turns: Sequence[Turn]) -> MessageId:
    """Return the message of another branch that stands where one stood."""
    shown = [turn for turn in turns if turn.shown]
    there = [turn for turn in shown if turn.parent_id == gone.parent_id] or shown[-1:]
    return there[0].message_id if there else NO_MESSAGE
