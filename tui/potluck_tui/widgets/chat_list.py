"""The list of chats at the left."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from potluck_proto.ids import ChatId
from potluck_tui.keys import CHAT_LIST
from potluck_tui.library import Library
from potluck_tui.views import NEW_CHAT, ChatSummary, ShelfKind
from potluck_tui.widgets.keys_in_order import run_in_order

NEAR_THE_END = 20
"""The next page is read when the cursor is so many chats before the last."""

HEADINGS = {
    ShelfKind.CURRENT: "Chats",
    ShelfKind.ARCHIVED: "Archived",
    ShelfKind.DELETED: "Deleted",
}


class Verb(StrEnum):
    """What a key does to the chat under the cursor."""

    RENAME = "rename"
    PIN = "pin"
    ARCHIVE = "archive"
    DELETE = "delete"
    RESTORE = "restore"
    EXPORT = "md"
    EXPORT_JSON = "json"


class ChatList(OptionList):
    """Chats in their order; pinned ones are marked with `*`, answers under way with a dot."""

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in CHAT_LIST]

    class Act(Message):
        """The reader wants something done to a chat."""

        def __init__(self, verb: Verb, chat_id: ChatId) -> None:
            super().__init__()
            self.verb = verb
            self.chat_id = chat_id

    class NextShelf(Message):
        """The reader wants to see the next shelf."""

    class NearTheEnd(Message):
        """The cursor comes near the end of what was read."""

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id, markup=False, compact=True)
        self._shown: tuple[tuple[ChatSummary, ...], ChatId] | None = None
        self._went_to = NEW_CHAT
        """The chat that is shown, once the cursor has gone to it."""

    def show(self, chats: tuple[ChatSummary, ...], current: ChatId) -> None:
        """List these chats; the cursor stays on its chat, and goes once to one that is opened."""
        if self._shown == (chats, current):
            return
        places = {chat.chat_id: number for number, chat in enumerate(chats)}
        under_cursor, at = self.chat_under_cursor, self.highlighted
        if current in places and (under_cursor is None or current != self._went_to):
            self._went_to, at = current, places[current]
        elif under_cursor in places:
            at = places[under_cursor]
        elif at is not None:
            at = min(at, len(chats) - 1)  # what has taken its place
        self._shown = (chats, current)
        self.clear_options()
        self.add_options([Option(_row(chat, current), id=chat.chat_id) for chat in chats])
        self.highlighted = at if chats else None
        self._have_a_cursor()

    def watch_has_focus(self, has_focus: bool) -> None:
        """Have a chat under the cursor that the keys act on."""
        super().watch_has_focus(has_focus)
        self._have_a_cursor()

    def _have_a_cursor(self) -> None:
        if self.has_focus and self.highlighted is None and self.option_count:
            self.highlighted = 0

    @property
    def chat_under_cursor(self) -> ChatId | None:
        """The chat that a key would act on."""
        if self.highlighted is None:
            return None
        return ChatId(self.get_option_at_index(self.highlighted).id or "")

    async def _on_key(self, event: events.Key) -> None:
        await run_in_order(self, event)

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Ask for more in time."""
        super().watch_highlighted(highlighted)
        if highlighted is not None and highlighted >= self.option_count - NEAR_THE_END:
            self.post_message(self.NearTheEnd())

    def _act(self, verb: Verb) -> None:
        if chat_id := self.chat_under_cursor:
            self.post_message(self.Act(verb, chat_id))

    def action_rename(self) -> None:
        """Ask for another title."""
        self._act(Verb.RENAME)

    def action_pin(self) -> None:
        """Pin the chat, or no longer."""
        self._act(Verb.PIN)

    def action_archive(self) -> None:
        """Put the chat into the archive, or take it back."""
        self._act(Verb.ARCHIVE)

    def action_delete(self) -> None:
        """Delete the chat."""
        self._act(Verb.DELETE)

    def action_restore(self) -> None:
        """Take the chat back, or the one that was deleted last."""
        self.post_message(self.Act(Verb.RESTORE, self.chat_under_cursor or ChatId("")))

    def action_export(self, kind: str) -> None:
        """Write the chat to a file."""
        self._act(Verb(kind))

    def action_next_shelf(self) -> None:
        """Show the next shelf."""
        self.post_message(self.NextShelf())


class ChatPanel(Vertical):
    """The list with its heading."""

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self.list = ChatList(widget_id="chat-list")
        self._heading = Static(id="chat-heading", markup=False)
        self._words = ""
        self._shelf, self._empty = ShelfKind.CURRENT, True

    def compose(self) -> ComposeResult:
        """Build the heading and the list."""
        yield self._heading
        yield self.list

    def on_mount(self) -> None:
        """Have the heading name the list's keys while they are heard."""
        self.watch(self.list, "has_focus", self._show_heading)

    def show(self, library: Library, current: ChatId) -> None:
        """Show what was read of the list."""
        self._shelf, self._empty = library.shelf, not library.chats
        self._show_heading()
        self.list.show(library.chats, current)

    def _show_heading(self) -> None:
        """Show the heading; one that did not change is not laid out again."""
        shelves = list(ShelfKind)
        following = shelves[(shelves.index(self._shelf) + 1) % len(shelves)]
        empty = ": none" if self._empty else ""
        hint = f"  tab: {following}" if self.list.has_focus else ""
        words = HEADINGS[self._shelf] + empty + hint
        if words != self._words:
            self._words = words
            self._heading.update(words)


def _row(chat: ChatSummary, current: ChatId) -> Text:
    mark = "●" if chat.active else "*" if chat.pinned else " "
    style = "bold" if chat.chat_id == current else ""
    return Text.assemble(
        (f"{mark} ", "green"), (chat.title, style), no_wrap=True, overflow="ellipsis"
    )
