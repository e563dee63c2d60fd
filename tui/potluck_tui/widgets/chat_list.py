"""The list of chats at the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from potluck_proto.ids import ChatId
from potluck_tui.views import ChatSummary


class ChatList(OptionList):
    """Chats, newest first; pinned ones are marked with `*`, answers under way with a dot."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "rename", "Rename", id="chats.rename"),
        Binding("d,delete", "delete", "Delete", id="chats.delete"),
        Binding("j", "cursor_down", "Down", id="chats.down", show=False),
        Binding("k", "cursor_up", "Up", id="chats.up", show=False),
    ]

    class Rename(Message):
        """The reader wants another title for a chat."""

        def __init__(self, chat_id: ChatId) -> None:
            super().__init__()
            self.chat_id = chat_id

    class Delete(Message):
        """The reader wants a chat gone."""

        def __init__(self, chat_id: ChatId) -> None:
            super().__init__()
            self.chat_id = chat_id

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id, markup=False, compact=True)
        self._shown: tuple[tuple[ChatSummary, ...], ChatId] | None = None

    def show(self, chats: Sequence[ChatSummary], current: ChatId) -> None:
        """List these chats; the cursor stays on its chat."""
        if self._shown == (tuple(chats), current):
            return
        under_cursor = self.chat_under_cursor or current
        if self._shown is not None and self._shown[1] != current:
            under_cursor = current
        self._shown = (tuple(chats), current)
        self.clear_options()
        self.add_options([Option(_row(chat, current), id=chat.chat_id) for chat in chats])
        ids = [chat.chat_id for chat in chats]
        self.highlighted = ids.index(under_cursor) if under_cursor in ids else None

    @property
    def chat_under_cursor(self) -> ChatId | None:
        """The chat that a key would act on."""
        if self.highlighted is None:
            return None
        return ChatId(self.get_option_at_index(self.highlighted).id or "")

    def action_rename(self) -> None:
        """Ask for another title."""
        if chat_id := self.chat_under_cursor:
            self.post_message(self.Rename(chat_id))

    def action_delete(self) -> None:
        """Ask whether to delete."""
        if chat_id := self.chat_under_cursor:
            self.post_message(self.Delete(chat_id))


def _row(chat: ChatSummary, current: ChatId) -> Text:
    mark = "●" if chat.active else "*" if chat.pinned else " "
    style = "bold" if chat.chat_id == current else ""
    return Text.assemble(
        (f"{mark} ", "green"), (chat.title, style), no_wrap=True, overflow="ellipsis"
    )
