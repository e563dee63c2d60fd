from __future__ import annotations

from potluck_proto.ids import ChatId
from potluck_tui.events import ChatsSeen
from potluck_tui.instructions import (
    DeleteChat,
    ListChats,
    RestoreChat,
    Say,
    UpdateChat,
)
from potluck_tui.library import LISTED_LIMIT, PAGE_CHATS, Library
from potluck_tui.views import ChatSummary, ShelfKind

CHAT = ChatId("c1")


def page(
    first: int,
    count: int = PAGE_CHATS,
    *,
    token: str = "",
    following: str = "",
    shelf: ShelfKind = ShelfKind.CURRENT,
) -> ChatsSeen:
    chats = tuple(ChatSummary(ChatId(f"c{n}"), f"Chat {n}") for n in range(first, first + count))
    return ChatsSeen(chats, 0.0, shelf, token, following)


def titles(library: Library) -> list[str]:
    return [chat.title for chat in library.chats]


def test_the_list_is_read_page_by_page_and_again_as_far_as_it_is_known() -> None:
    library = Library()
    assert library.read_again() == ListChats(limit=PAGE_CHATS)
    library.seen(page(0, following="t1"))
    assert library.read_on() == [ListChats(limit=PAGE_CHATS, page_token="t1")]
    assert library.read_on() == []
    library.seen(page(PAGE_CHATS, token="t1"))
    assert titles(library) == [f"Chat {n}" for n in range(2 * PAGE_CHATS)]
    assert not library.has_more
    assert library.read_on() == []
    assert library.read_again() == ListChats(limit=2 * PAGE_CHATS)
    library.chats *= 9
    assert library.read_again() == ListChats(limit=LISTED_LIMIT)


def test_a_page_of_another_list_is_dropped() -> None:
    library = Library()
    library.seen(page(0, following="t1"))
    library.read_on()
    library.seen(page(0, 2, following="t2"))
    library.seen(page(PAGE_CHATS, token="t1"))
    assert titles(library) == ["Chat 0", "Chat 1"]
    assert library.show(ShelfKind.ARCHIVED) == [ListChats(ShelfKind.ARCHIVED)]
    assert library.show(ShelfKind.ARCHIVED) == []
    library.seen(page(0))
    assert titles(library) == []
    library.seen(page(5, 1, shelf=ShelfKind.ARCHIVED))
    assert titles(library) == ["Chat 5"]


def test_chats_are_pinned_and_archived_and_the_other_way_round() -> None:
    library = Library()
    library.chats = (
        ChatSummary(CHAT, "One"),
        ChatSummary(ChatId("c2"), "Two", pinned=True, archived=True),
    )
    assert library.pin(CHAT) == [UpdateChat(CHAT, pinned=True)]
    assert library.pin(ChatId("c2")) == [UpdateChat(ChatId("c2"), pinned=False)]
    archived = library.archive(CHAT)
    assert archived == [UpdateChat(CHAT, archived=True), Say("“One” is in the archive now.")]
    assert library.archive(ChatId("c2"))[0] == UpdateChat(ChatId("c2"), archived=False)
    assert library.archive(ChatId("gone")) == []


def test_deleted_chats_are_named_and_taken_back_the_last_one_first() -> None:
    library = Library()
    library.seen(ChatsSeen((ChatSummary(CHAT, "One"), ChatSummary(ChatId("c2"), "Two")), 0.0))
    assert library.deleted(CHAT)[1] == Say("“One” is deleted. f9 brings it back, for 7 days.")
    library.deleted(ChatId("c2"))
    library.seen(ChatsSeen((), 0.0))
    assert library.restore() == [RestoreChat(ChatId("c2"))]
    assert library.restored(ChatId("c2"))[1] == Say("“Two” is back.")
    assert library.restore() == [RestoreChat(CHAT)]


def test_the_last_deleted_chat_is_taken_back_once() -> None:
    library = Library()
    assert library.restore() == [Say("No chat was deleted here lately.")]
    assert library.delete(CHAT) == [DeleteChat(CHAT)]
    library.deleted(CHAT)
    assert library.restore() == [RestoreChat(CHAT)]
    library.restored(CHAT)
    assert library.restore() == [Say("No chat was deleted here lately.")]
    assert library.restore(ChatId("c2")) == [RestoreChat(ChatId("c2"))]


def test_a_title_is_one_line() -> None:
    assert Library().rename(CHAT, " a\nb ") == [UpdateChat(CHAT, title="a b")]
    assert Library().rename(CHAT, "  ") == []
