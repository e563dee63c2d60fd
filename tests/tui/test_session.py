from __future__ import annotations

from dataclasses import replace

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_tui import events
from potluck_tui.events import (
    AdoptDraft,
    AnswerEnded,
    AnswerText,
    ChatDeleted,
    ChatGone,
    ChatSeen,
    ChatsSeen,
    ConnectionLost,
    FetchChat,
    Follow,
    FollowFailed,
    KeepDraft,
    ListChats,
    LoadDraft,
    PoolSeen,
    ReturnToPrompt,
    Say,
    StopAnswer,
    Submit,
    SubmitFailed,
    Submitted,
    Unfollow,
)
from potluck_tui.pool import PoolView
from potluck_tui.session import NEW_CHAT, RECENT_SECONDS, Session
from potluck_tui.views import ChatSummary, Ending, EndKind, Speaker, Turn

CHAT = ChatId("c1")
GENERATION = GenerationId("g1")
COMPLETE = Ending(EndKind.COMPLETE)


def submitted(session: Session, text: str = "hello", number: int = 1) -> Submitted:
    return Submitted(
        visit=session.visit,
        text=text,
        chat_id=CHAT,
        user_message_id=MessageId(f"u{number}"),
        answer_message_id=MessageId(f"a{number}"),
        generation_id=GenerationId(f"g{number}"),
    )


def answering() -> Session:
    session = Session()
    session.send("hello")
    session.handle(submitted(session))
    return session


def test_a_prompt_shows_at_once_and_is_followed_when_it_is_stored() -> None:
    session = Session()
    assert session.send("  hello ") == [Submit(0, NEW_CHAT, "hello", "")]
    assert [turn.text for turn in session.turns] == ["hello"]
    assert session.busy
    instructions = session.handle(submitted(session))
    assert instructions == [AdoptDraft(CHAT), Follow(GENERATION, 0), ListChats()]
    assert session.chat_id == CHAT
    session.handle(AnswerText(GENERATION, "Hi "))
    session.handle(AnswerText(GENERATION, "there"))
    assert session.last_answer == "Hi there"
    session.handle(AnswerEnded(GENERATION, COMPLETE))
    assert not session.busy


def test_an_empty_prompt_is_not_sent() -> None:
    assert Session().send(" \n ") == []


def test_prompts_wait_for_the_answer_under_way() -> None:
    session = answering()
    assert session.send("second") == []
    assert session.send("third") == []
    assert session.draft("typing") == "second\n\nthird\n\ntyping"
    assert session.handle(AnswerEnded(GENERATION, COMPLETE)) == [Submit(0, CHAT, "second", "")]
    assert session.queue == ("third",)
    assert session.take_back() == "third"
    assert session.take_back() == ""


def test_waiting_prompts_return_when_the_answer_is_stopped_or_fails() -> None:
    for kind in (EndKind.STOPPED, EndKind.FAILED):
        session = answering()
        session.send("second")
        assert session.stop() == [StopAnswer(GENERATION)]
        ended = AnswerEnded(GENERATION, Ending(kind))
        assert session.handle(ended) == [ReturnToPrompt("second")]
        assert session.queue == ()


def test_a_prompt_that_is_not_taken_returns_with_those_that_wait() -> None:
    session = Session()
    session.send("hello")
    session.send("second")
    failed = SubmitFailed(session.visit, NEW_CHAT, "hello", "No such model.")
    assert session.handle(failed) == [
        ReturnToPrompt("hello\n\nsecond"),
        Say("No such model.", problem=True),
    ]
    assert session.turns == ()


def test_a_prompt_that_fails_after_its_chat_was_left_goes_to_its_draft() -> None:
    session = Session()
    session.send("hello")
    failed = SubmitFailed(session.visit, NEW_CHAT, "hello", "Away.")
    session.handle(ChatsSeen((ChatSummary(CHAT, "One"),), 0.0))
    session.open_chat(CHAT)
    assert session.handle(failed)[0] == KeepDraft(NEW_CHAT, "hello")


def test_what_comes_back_for_an_earlier_visit_changes_nothing() -> None:
    session = Session()
    session.send("hello")
    late = submitted(session)
    session.new_chat()
    assert session.handle(late) == [ListChats()]
    assert session.chat_id == NEW_CHAT
    assert session.turns == ()
    session.handle(AnswerText(GENERATION, "late"))
    assert session.turns == ()


def chats(age_seconds: float, *, active: bool = False) -> ChatsSeen:
    chat = ChatSummary(CHAT, "One", "m:Q4", 1_000_000.0 - age_seconds, active=active)
    return ChatsSeen((chat,), 1_000_000.0)


def test_the_start_shows_the_newest_chat_if_it_is_recent_or_under_way() -> None:
    opened = [Unfollow(), LoadDraft(CHAT), FetchChat(CHAT)]
    assert Session().handle(chats(60)) == opened
    assert Session().handle(chats(RECENT_SECONDS + 1)) == []
    assert Session().handle(chats(RECENT_SECONDS + 1, active=True)) == opened


def test_later_lists_do_not_change_the_chat() -> None:
    session = Session()
    session.handle(ChatsSeen((), 0.0))
    assert session.handle(chats(60)) == []


def test_an_answer_under_way_is_followed_from_what_is_stored() -> None:
    session = Session()
    session.handle(chats(60))
    stored = Turn(MessageId("a1"), Speaker.MODEL, "so far", GENERATION)
    seen = ChatSeen(ChatSummary(CHAT, "One"), (stored,))
    assert session.handle(seen) == [Follow(GENERATION, 6)]
    assert session.handle(replace_turns(seen, replace(stored, ending=COMPLETE))) == [Unfollow()]


def replace_turns(seen: ChatSeen, *turns: Turn) -> ChatSeen:
    return replace(seen, turns=turns)


def test_an_answer_that_the_scheduler_has_less_of_is_read_again() -> None:
    session = answering()
    failed = FollowFailed(GENERATION, "Shorter.", reload=True)
    assert session.handle(failed) == [FetchChat(CHAT)]
    session.handle(FollowFailed(GENERATION, "Unknown answer.", reload=False))
    assert session.turns[-1].ending == Ending(EndKind.FAILED, "Unknown answer.")


def test_an_answer_that_another_viewer_asked_for_is_found() -> None:
    session = answering()
    session.handle(AnswerEnded(GENERATION, COMPLETE))
    pool = PoolView(active={CHAT: GenerationId("g9")})
    assert FetchChat(CHAT) in session.handle(PoolSeen(pool))


def test_the_connection_is_lost_and_returns() -> None:
    session = Session()
    assert ListChats() in session.handle(PoolSeen(PoolView()))
    assert session.handle(PoolSeen(PoolView())) == []
    session.handle(ConnectionLost())
    assert session.connected is False
    assert ListChats() in session.handle(PoolSeen(PoolView()))


def test_a_deleted_chat_gives_way_to_a_new_one() -> None:
    session = answering()
    assert session.delete(CHAT) == [events.DeleteChat(CHAT)]
    session.handle(ChatDeleted(CHAT))
    assert session.chat_id == NEW_CHAT
    session = answering()
    session.handle(ChatGone(CHAT, "No such chat.", deleted=True))
    assert session.chat_id == NEW_CHAT


def test_the_chosen_model_goes_with_the_next_prompt() -> None:
    session = Session()
    assert session.choose_model("m:Q4") == []
    assert session.send("hello") == [Submit(0, NEW_CHAT, "hello", "m:Q4")]
    session.handle(submitted(session))
    assert session.choose_model("n:Q8") == [events.UpdateChat(CHAT, model="n:Q8")]


def test_a_title_is_one_line() -> None:
    assert Session().rename(CHAT, " a\nb ") == [events.UpdateChat(CHAT, title="a b")]
    assert Session().rename(CHAT, "  ") == []


def test_a_trouble_of_the_scheduler_is_said_once() -> None:
    session = Session()
    trouble = PoolView(problem="The disk is full.")
    assert Say("The disk is full.", problem=True) in session.handle(PoolSeen(trouble))
    assert Say("The disk is full.", problem=True) not in session.handle(PoolSeen(trouble))
    session.handle(PoolSeen(PoolView()))
    assert Say("The disk is full.", problem=True) in session.handle(PoolSeen(trouble))
