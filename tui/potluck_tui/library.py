"""The chats that can be opened: a list that is read page by page, and what a search found."""

from __future__ import annotations

from collections.abc import Sequence

from potluck_proto.ids import ChatId
from potluck_tui.events import ChatsSeen
from potluck_tui.instructions import (
    DeleteChat,
    Instruction,
    ListChats,
    RestoreChat,
    Say,
    SearchChats,
    UpdateChat,
)
from potluck_tui.keys import press
from potluck_tui.views import NEW_CHAT, ChatSummary, Hit, ShelfKind, one_line

PAGE_CHATS = 100
"""Chats of a page; the next one is read when somebody comes near its end."""

LISTED_LIMIT = 500
"""When a chat changes, the list is read again up to here, and further down when that is wanted."""


class Library:
    """The list of one shelf, as far as it was read, and the hits of one search."""

    def __init__(self) -> None:
        self.shelf = ShelfKind.CURRENT
        self.chats: tuple[ChatSummary, ...] = ()
        self.has_more = False
        self.deleted_here: dict[ChatId, str] = {}
        """What this viewer has put away, the last one last, and how it is called in a sentence."""
        self.query = ""
        """What was searched for last; empty where nothing is."""
        self.hits: tuple[Hit, ...] = ()
        self.hits_known = False
        """The search has ended."""
        self.hit_number = -1
        """The hit that is shown; -1 for none."""
        self._next_page_token = ""
        self._reading_token = ""

    def chat(self, chat_id: ChatId) -> ChatSummary | None:
        """Return a chat of the list."""
        return next((chat for chat in self.chats if chat.chat_id == chat_id), None)

    # --- The list --------------------------------------------------------------------------------

    def show(self, shelf: ShelfKind) -> list[ListChats]:
        """Show another shelf."""
        if shelf == self.shelf:
            return []
        self.shelf, self.chats, self.has_more = shelf, (), False
        return [self.read_again()]

    def read_again(self) -> ListChats:
        """Ask for the list as far as it is known."""
        self._reading_token = ""
        return ListChats(self.shelf, min(max(PAGE_CHATS, len(self.chats)), LISTED_LIMIT))

    def read_on(self) -> list[ListChats]:
        """Ask for the next page, unless that is under way or there is none."""
        token = self._next_page_token
        if not token or self._reading_token == token:
            return []
        self._reading_token = token
        return [ListChats(self.shelf, PAGE_CHATS, token)]

    def seen(self, event: ChatsSeen) -> None:
        """Take a page; a page of a list that is not shown any more is dropped."""
        if event.shelf != self.shelf or event.page_token not in ("", self._next_page_token):
            return
        self.chats = (*self.chats, *event.chats) if event.page_token else event.chats
        self._next_page_token = event.next_page_token
        self.has_more = bool(event.next_page_token)

    # --- Changing chats --------------------------------------------------------------------------

    def rename(self, chat_id: ChatId, title: str) -> Sequence[Instruction]:
        """Give a chat another title."""
        title = one_line(title)
        return [UpdateChat(chat_id, title=title)] if title and chat_id else []

    def pin(self, chat_id: ChatId) -> Sequence[Instruction]:
        """Keep a chat at the top of the list, or no longer."""
        chat = self.chat(chat_id)
        return [UpdateChat(chat_id, pinned=not chat.pinned)] if chat else []

    def archive(self, chat_id: ChatId) -> Sequence[Instruction]:
        """Put a chat into the archive, or take it back."""
        chat = self.chat(chat_id)
        if chat is None:
            return []
        words = "is back among the chats" if chat.archived else "is in the archive now"
        said = Say(f"“{chat.title}” {words}.")
        return [UpdateChat(chat_id, archived=not chat.archived), said]

    def delete(self, chat_id: ChatId) -> Sequence[Instruction]:
        """Put a chat away."""
        return [DeleteChat(chat_id)] if chat_id else []

    def restore(self, chat_id: ChatId = NEW_CHAT) -> Sequence[Instruction]:
        """Take a deleted chat back; without an id, the last one that was deleted here."""
        chat_id = chat_id or next(reversed(self.deleted_here), NEW_CHAT)
        return [RestoreChat(chat_id)] if chat_id else [Say("No chat was deleted here lately.")]

    def deleted(self, chat_id: ChatId) -> Sequence[Instruction]:
        """Note that a chat was put away."""
        named = self._named(chat_id)
        self.deleted_here[chat_id] = named
        words = f"{named} is deleted. {press('chat.restore')} brings it back, for 7 days."
        return [self.read_again(), Say(words)]

    def restored(self, chat_id: ChatId) -> Sequence[Instruction]:
        """Note that a chat was taken back."""
        named = self.deleted_here.pop(chat_id, "") or self._named(chat_id)
        return [self.read_again(), Say(f"{named} is back.")]

    def _named(self, chat_id: ChatId) -> str:
        chat = self.chat(chat_id)
        return f"“{chat.title}”" if chat else "The chat"

    # --- The search ------------------------------------------------------------------------------

    def search(self, query: str) -> list[SearchChats]:
        """Search for another text."""
        query = query.strip()
        if query == self.query:
            return []
        self.query = query
        self.hits, self.hit_number, self.hits_known = (), -1, False
        return [SearchChats(query)] if query else []

    def found(self, query: str, hits: tuple[Hit, ...]) -> None:
        """Take what a search found, unless another one has begun."""
        if query == self.query:
            self.hits, self.hit_number, self.hits_known = hits, -1, True

    def step(self, step: int) -> Hit | None:
        """Go to the hit so many places on, around the end; return it."""
        if not self.hits:
            return None
        at = self.hit_number + step if self.hit_number >= 0 else 0
        self.hit_number = at % len(self.hits)
        return self.hits[self.hit_number]
