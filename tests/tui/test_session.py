from __future__ import annotations

from dataclasses import replace

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2
from potluck_tui.conversation import Conversation
from potluck_tui.events import (
    AnswerEnded,
    AnswerPlaced,
    AnswerText,
    BranchChanged,
    BranchNotChanged,
    ChatDeleted,
    ChatGone,
    ChatSeen,
    ChatsSeen,
    ConnectionLost,
    FollowFailed,
    PoolSeen,
    PromptsSeen,
    SearchSeen,
    SubmitFailed,
    Submitted,
)
from potluck_tui.instructions import (
    AdoptDraft,
    ContinueAnswer,
    DeleteChat,
    FetchChat,
    FillPrompt,
    Follow,
    KeepDraft,
    ListChats,
    LoadDraft,
    Regenerate,
    RestoreChat,
    ReturnToPrompt,
    SaveDraft,
    Say,
    SearchChats,
    SelectBranch,
    ShowMessage,
    StopAnswer,
    Submit,
    UpdateChat,
)
from potluck_tui.pool import ModelView, PoolView
from potluck_tui.preset import Preset
from potluck_tui.session import RECENT_SECONDS, Session
from potluck_tui.views import (
    NEW_CHAT,
    AttachedFile,
    ChatSummary,
    Ending,
    EndKind,
    Hit,
    Question,
    Speaker,
    Turn,
)

CHAT = ChatId("c1")
GENERATION = GenerationId("g1")
COMPLETE = Ending(EndKind.COMPLETE)
U1, A1, U2, A2 = (MessageId(name) for name in ("u1", "a1", "u2", "a2"))


def submitted(session: Session, text: str = "hello", number: int = 1) -> Submitted:
    return Submitted(
        visit=session.conversation.visit,
        question=Question(text),
        chat_id=CHAT,
        user_message_id=MessageId(f"u{number}"),
        answer_message_id=MessageId(f"a{number}"),
        generation_id=GenerationId(f"g{number}"),
        revision=number,
    )


def answering() -> Session:
    session = Session()
    session.conversation.send(Question("hello"))
    session.handle(submitted(session))
    return session


def answered() -> Session:
    """Return a session that shows a question and its complete answer."""
    session = answering()
    session.handle(AnswerText(GENERATION, 0, "Hi"))
    session.handle(AnswerEnded(GENERATION, COMPLETE))
    return session


def texts(session: Session) -> list[str]:
    return [turn.text for turn in session.conversation.turns]


def test_who_asks_a_base_model_is_told_once_what_it_is_and_how_to_use_it() -> None:
    base = pb.ModelSummary(
        description=types_pb2.ModelDescription(
            name="base", tuning=types_pb2.TUNING_BASE, note="A base model. Set a template."
        ),
        is_default=True,
        usable=True,
    )
    said = []
    for has_template in (False, True):
        session = Session()
        base.description.has_chat_template = has_template
        session.pool = PoolView(models=(ModelView.from_proto(base),))
        for number in (1, 2):
            session.conversation.send(Question("hello"))
            said.append(
                [
                    each.sentence
                    for each in session.handle(submitted(session, number=number))
                    if isinstance(each, Say)
                ]
            )
    assert said == [["A base model. Set a template."], [], [], []]


# --- Asking --------------------------------------------------------------------------------------


def test_a_prompt_shows_at_once_and_is_followed_when_it_is_stored() -> None:
    session = Session()
    assert session.conversation.send(Question("  hello ")) == [
        Submit(0, session.conversation.chat, Question("hello"))
    ]
    assert texts(session) == ["hello"]
    assert session.conversation.busy
    instructions = session.handle(submitted(session))
    assert instructions == [
        AdoptDraft(CHAT),
        SaveDraft(),
        Follow(((GENERATION, 0),)),
        ListChats(),
    ]
    assert session.conversation.chat_id == CHAT
    session.handle(AnswerText(GENERATION, 0, "Hi "))
    session.handle(AnswerText(GENERATION, 3, "there"))
    assert session.conversation.last_answer == "Hi there"
    session.handle(AnswerEnded(GENERATION, COMPLETE))
    assert not session.conversation.busy


def test_an_empty_prompt_is_not_sent_but_a_file_alone_is() -> None:
    assert Conversation().send(Question(" \n ")) == []
    assert Conversation().send(Question("", (AttachedFile("a", "b"),)))


def test_prompts_wait_for_the_answer_under_way() -> None:
    session = answering()
    assert session.conversation.send(Question("second")) == []
    assert session.conversation.send(Question("third")) == []
    assert session.conversation.draft("typing") == "second\n\nthird\n\ntyping"
    ended = session.handle(AnswerEnded(GENERATION, COMPLETE))
    assert ended == [Submit(0, session.conversation.chat, Question("second"))]
    assert session.conversation.queue == (Question("third"),)
    assert session.conversation.take_back() == "third"
    assert session.conversation.take_back() == ""


def test_a_prompt_is_in_the_draft_until_it_is_stored() -> None:
    session = Session()
    session.conversation.send(Question("hello"))
    assert session.conversation.draft("typing") == "hello\n\ntyping"
    session.handle(submitted(session))
    assert session.conversation.draft("typing") == "typing"


def test_waiting_prompts_return_when_the_answer_is_stopped_or_fails() -> None:
    for kind in (EndKind.STOPPED, EndKind.FAILED):
        session = answering()
        session.conversation.send(Question("second"))
        assert session.conversation.stop() == [StopAnswer(GENERATION)]
        ended = AnswerEnded(GENERATION, Ending(kind))
        assert session.handle(ended) == [ReturnToPrompt("second")]
        assert session.conversation.queue == ()


def test_a_prompt_that_is_not_taken_returns_with_those_that_wait() -> None:
    session = Session()
    session.conversation.send(Question("hello"))
    session.conversation.send(Question("second"))
    failed = SubmitFailed(session.conversation.visit, NEW_CHAT, Question("hello"), "No such model.")
    assert session.handle(failed) == [
        ReturnToPrompt("hello\n\nsecond"),
        Say("No such model.", problem=True),
    ]
    assert session.conversation.turns == ()


def test_a_prompt_that_fails_after_its_chat_was_left_goes_to_its_draft() -> None:
    session = Session()
    session.conversation.send(Question("hello"))
    failed = SubmitFailed(session.conversation.visit, NEW_CHAT, Question("hello"), "Away.")
    session.handle(ChatsSeen((ChatSummary(CHAT, "One"),), 0.0))
    session.open_chat(CHAT)
    assert session.handle(failed)[0] == KeepDraft(NEW_CHAT, "hello")


def test_what_comes_back_for_an_earlier_visit_changes_nothing() -> None:
    session = Session()
    session.conversation.send(Question("hello"))
    late = submitted(session)
    session.conversation.new_chat()
    assert session.handle(late) == [ListChats()]
    assert session.conversation.chat_id == NEW_CHAT
    assert session.conversation.turns == ()
    session.handle(AnswerText(GENERATION, 0, "late"))
    assert session.conversation.turns == ()


def test_prompts_of_all_chats_can_be_asked_again_those_of_this_one_first() -> None:
    session = Session()
    session.handle(PromptsSeen(("one", "two", "hello")))
    assert session.asked == ["one", "two", "hello"]
    session.conversation.send(Question("two"))
    assert session.asked == ["one", "hello", "two"]


# --- Chats ---------------------------------------------------------------------------------------


def chats(age_seconds: float, *, active: bool = False) -> ChatsSeen:
    chat = ChatSummary(CHAT, "One", "m:Q4", 1_000_000.0 - age_seconds, active=active)
    return ChatsSeen((chat,), 1_000_000.0)


def seen(*turns: Turn, revision: int = 1) -> ChatSeen:
    return ChatSeen(ChatSummary(CHAT, "One", revision=revision), turns)


def test_the_start_shows_the_newest_chat_if_it_is_recent_or_under_way() -> None:
    opened = [Follow(), LoadDraft(CHAT), FetchChat(CHAT)]
    assert Session().handle(chats(60)) == opened
    assert Session().handle(chats(RECENT_SECONDS + 1)) == []
    assert Session().handle(chats(RECENT_SECONDS + 1, active=True)) == opened


def test_the_start_shows_where_something_was_being_typed() -> None:
    session = Session()
    session.unfinished = NEW_CHAT
    assert session.handle(chats(60, active=True)) == []
    session = Session()
    session.unfinished = CHAT
    assert session.handle(chats(RECENT_SECONDS + 1)) == [
        Follow(),
        LoadDraft(CHAT),
        FetchChat(CHAT),
    ]
    session = Session()
    session.unfinished = ChatId("deleted since")
    assert session.handle(chats(60)) == [Follow(), LoadDraft(CHAT), FetchChat(CHAT)]


def test_later_lists_do_not_change_the_chat() -> None:
    session = Session()
    session.handle(ChatsSeen((), 0.0))
    assert session.handle(chats(60)) == []


def test_an_answer_under_way_is_followed_from_what_is_stored() -> None:
    session = Session()
    session.handle(chats(60))
    stored = Turn(A1, Speaker.MODEL, "so far", GENERATION)
    assert session.handle(seen(stored)) == [Follow(((GENERATION, 6),))]
    assert session.handle(seen(replace(stored, ending=COMPLETE))) == [Follow()]


def test_a_chat_that_is_read_while_its_answer_comes_neither_loses_nor_doubles_text() -> None:
    session = answering()
    session.handle(AnswerText(GENERATION, 0, "one two "))
    # Read before the second word came, seen after it.
    stored = Turn(A1, Speaker.MODEL, "one ", GENERATION)
    session.handle(seen(Turn(U1, Speaker.USER, "hello"), stored))
    assert session.conversation.last_answer == "one two "
    # Read after the third word came, which is on its way here.
    session.handle(seen(Turn(U1, Speaker.USER, "hello"), replace(stored, text="one two three ")))
    session.handle(AnswerText(GENERATION, 8, "three four"))
    assert session.conversation.last_answer == "one two three four"


def test_an_answer_that_the_scheduler_has_less_of_is_read_again() -> None:
    session = answering()
    session.handle(AnswerText(GENERATION, 0, "much text"))
    failed = FollowFailed(GENERATION, "Shorter.", reload=True)
    assert session.handle(failed) == [FetchChat(CHAT)]
    stored = Turn(A1, Speaker.MODEL, "much", GENERATION)
    assert session.handle(seen(stored)) == [Follow(((GENERATION, 4),))]
    session.handle(FollowFailed(GENERATION, "Unknown answer.", reload=False))
    assert session.conversation.turns[-1].ending == Ending(EndKind.FAILED, "Unknown answer.")


def test_a_chat_that_somebody_changed_is_read_again_if_it_is_another_now() -> None:
    session = answered()
    session.handle(PoolSeen(PoolView(chats_revision=1)))
    assert session.handle(PoolSeen(PoolView(chats_revision=1))) == []
    changed = session.handle(PoolSeen(PoolView(chats_revision=2)))
    assert changed == [ListChats(), FetchChat(CHAT, known_revision=1)]


def test_a_change_of_another_viewer_between_two_of_ones_own_is_not_missed() -> None:
    session = answered()
    session.conversation.send(Question("again"))
    instructions = session.handle(replace(submitted(session, "again", 2), revision=3))
    assert FetchChat(CHAT) in instructions
    session.handle(AnswerEnded(GenerationId("g2"), COMPLETE))
    session.conversation.chat = replace(session.conversation.chat, revision=3)
    session.conversation.send(Question("more"))
    instructions = session.handle(replace(submitted(session, "more", 3), revision=4))
    assert FetchChat(CHAT) not in instructions


def test_the_connection_is_lost_and_returns() -> None:
    session = Session()
    assert ListChats() in session.handle(PoolSeen(PoolView()))
    assert session.handle(PoolSeen(PoolView())) == []
    session.handle(ConnectionLost())
    assert session.connected is False
    assert ListChats() in session.handle(PoolSeen(PoolView()))


def test_a_deleted_chat_gives_way_to_a_new_one_and_can_be_taken_back() -> None:
    session = answering()
    assert session.library.delete(CHAT) == [DeleteChat(CHAT)]
    session.handle(ChatDeleted(CHAT))
    assert session.conversation.chat_id == NEW_CHAT
    assert session.library.restore() == [RestoreChat(CHAT)]
    session = answering()
    session.handle(ChatGone(CHAT, "No such chat.", deleted=True))
    assert session.conversation.chat_id == NEW_CHAT


def test_options_that_are_chosen_go_with_the_next_prompt_and_into_the_chat() -> None:
    session = Session()
    preset = Preset("wild", {"temperature": 2})
    assert session.conversation.choose(model="m:Q4") == []
    assert (
        session.conversation.choose(system_prompt="Be brief.", preset=preset, beside_model="n:Q8")
        == []
    )
    (submit,) = session.conversation.send(Question("hello"))
    assert isinstance(submit, Submit)
    assert submit.chat == ChatSummary(
        NEW_CHAT, "New chat", "m:Q4", system_prompt="Be brief.", preset=preset, beside_model="n:Q8"
    )
    session.handle(submitted(session))
    assert session.conversation.choose(model="n:Q8") == [UpdateChat(CHAT, model="n:Q8")]
    session.conversation.new_chat()
    assert session.conversation.chat == ChatSummary(NEW_CHAT, "New chat", "n:Q8")


def test_a_trouble_of_the_scheduler_is_said_once() -> None:
    session = Session()
    trouble = PoolView(problem="The disk is full.")
    assert Say("The disk is full.", problem=True) in session.handle(PoolSeen(trouble))
    assert Say("The disk is full.", problem=True) not in session.handle(PoolSeen(trouble))
    session.handle(PoolSeen(PoolView()))
    assert Say("The disk is full.", problem=True) in session.handle(PoolSeen(trouble))


# --- Branches ------------------------------------------------------------------------------------


def test_a_question_is_asked_anew_from_the_place_where_it_stands() -> None:
    session = answered()
    session.conversation.send(Question("second"))
    session.handle(submitted(session, "second", 2))
    session.handle(AnswerEnded(GenerationId("g2"), COMPLETE))
    assert session.conversation.edit(U2, "half a thought") == [FillPrompt("second")]
    assert session.conversation.draft("second!") == "half a thought\n\nsecond!"
    instructions = session.conversation.send(Question("second!"))
    assert instructions == [
        FillPrompt("half a thought"),
        Submit(0, session.conversation.chat, Question("second!"), parent_id=A1),
    ]
    assert texts(session) == ["hello", "Hi", "second!"]
    session.handle(submitted(session, "second!", 3))
    assert session.conversation.turns[2].place == "‹2/2›"
    assert session.conversation.editing is None


def test_an_edit_can_be_left() -> None:
    session = answered()
    session.conversation.edit(U1, "typed")
    assert session.conversation.cancel_edit() == [FillPrompt("typed")]
    assert session.conversation.cancel_edit() == []
    assert session.conversation.edit(A1, "") == []


def test_an_edit_that_fails_is_an_edit_still() -> None:
    session = answered()
    session.conversation.edit(U1, "")
    session.conversation.send(Question("hello!"))
    failed = SubmitFailed(session.conversation.visit, CHAT, Question("hello!"), "Away.")
    assert session.handle(failed) == [
        FillPrompt("hello!"),
        Say("Away.", problem=True),
        FetchChat(CHAT),
    ]
    assert session.conversation.editing is not None


def test_files_of_an_edited_question_stay_with_it() -> None:
    session = answered()
    file = AttachedFile("a.txt", "content")
    session.conversation.turns = (
        replace(session.conversation.turns[0], files=(file,)),
        *session.conversation.turns[1:],
    )
    assert session.conversation.edit(U1, "") == [FillPrompt("hello", (file,))]


def test_branches_are_switched_by_the_scheduler_one_change_at_a_time() -> None:
    session = answered()
    session.conversation.turns = (
        session.conversation.turns[0],
        replace(session.conversation.turns[1], siblings=(MessageId("a0"), A1)),
    )
    assert session.conversation.switch(A1, 1) == []
    assert session.conversation.switch(A1, -1) == [SelectBranch(CHAT, MessageId("a0"))]
    assert session.conversation.switch(A1, -1) == []
    assert session.handle(BranchChanged(CHAT)) == [FetchChat(CHAT)]
    session.handle(seen(Turn(MessageId("a0"), Speaker.MODEL, "Hello!", ending=COMPLETE)))
    assert not session.conversation.busy
    session.handle(BranchNotChanged(CHAT, "No."))
    assert session.handle(BranchChanged(ChatId("c9"))) == []


def test_an_answer_is_made_again_by_whom_one_likes() -> None:
    session = answered()
    asked = session.conversation.regenerate(A1, "n:Q8", "attic", beside=True)
    assert asked == [Regenerate(CHAT, A1, "n:Q8", "attic", beside=True)]
    assert session.conversation.regenerate(A1) == []
    assert session.handle(BranchNotChanged(CHAT, "No such node.")) == [
        Say("No such node.", problem=True)
    ]
    assert session.conversation.regenerate(A1) == [Regenerate(CHAT, A1)]


def test_only_a_cut_answer_goes_on() -> None:
    session = answered()
    assert session.conversation.continue_answer(A1) == [Say("This answer is complete.")]
    session.conversation.turns = (
        session.conversation.turns[0],
        replace(session.conversation.turns[1], ending=Ending(EndKind.STOPPED)),
    )
    assert session.conversation.continue_answer(A1) == [ContinueAnswer(CHAT, A1)]


def test_a_prompt_waits_while_a_branch_changes() -> None:
    session = answered()
    session.conversation.regenerate(A1)
    assert session.conversation.send(Question("next")) == []
    instructions = session.handle(seen(Turn(A2, Speaker.MODEL, "Hi!", ending=COMPLETE)))
    assert instructions[-1] == Submit(
        session.conversation.visit, session.conversation.chat, Question("next")
    )


def test_two_answers_side_by_side_are_followed_and_stopped_together() -> None:
    session = answered()
    one = Turn(A1, Speaker.MODEL, "on", GenerationId("g1"), parent_id=U1)
    two = Turn(A2, Speaker.MODEL, "u", GenerationId("g2"), parent_id=U1, beside_id=A1, shown=False)
    question = Turn(U1, Speaker.USER, "hello")
    session.conversation.turns = ()
    followed = session.handle(seen(question, one, two))
    assert followed == [Follow(((GenerationId("g1"), 2), (GenerationId("g2"), 1)))]
    session.handle(AnswerText(GenerationId("g2"), 1, "no"))
    session.handle(AnswerText(GenerationId("g1"), 2, "e"))
    assert texts(session) == ["hello", "one", "uno"]
    assert session.conversation.last_answer == "one"
    session.conversation.send(Question("next"))
    assert session.handle(AnswerEnded(GenerationId("g1"), COMPLETE)) == []
    assert session.conversation.stop() == [StopAnswer(GenerationId("g2"))]
    ended = session.handle(AnswerEnded(GenerationId("g2"), Ending(EndKind.STOPPED)))
    assert ended == [
        Submit(session.conversation.visit, session.conversation.chat, Question("next"))
    ]


# --- Hits of a search ----------------------------------------------------------------------------


def found(session: Session, *hits: Hit) -> None:
    session.library.search("word")
    session.handle(SearchSeen("word", hits))


def test_a_hit_in_the_chat_that_is_shown_is_scrolled_to() -> None:
    session = answered()
    found(session, Hit(CHAT, "One", U1), Hit(CHAT, "One", A1))
    assert session.show_hit(0) == [ShowMessage(U1)]
    assert session.show_hit(1) == [ShowMessage(A1)]
    assert session.show_hit(1) == [ShowMessage(U1)]
    assert session.show_hit(-1) == [ShowMessage(A1)]


def test_a_hit_in_another_chat_opens_it_there() -> None:
    session = Session()
    found(session, Hit(CHAT, "One", A1))
    assert session.show_hit(0) == [Follow(), LoadDraft(CHAT), FetchChat(CHAT)]
    instructions = session.handle(seen(Turn(A1, Speaker.MODEL, "word", ending=COMPLETE)))
    assert ShowMessage(A1) in instructions


def test_a_hit_on_a_branch_that_is_not_shown_has_it_shown_once() -> None:
    session = answered()
    found(session, Hit(CHAT, "One", A2))
    assert session.show_hit(0) == [SelectBranch(CHAT, A2)]
    assert session.handle(BranchChanged(CHAT)) == [FetchChat(CHAT)]
    there = seen(Turn(A2, Speaker.MODEL, "word", ending=COMPLETE))
    assert ShowMessage(A2) in session.handle(there)
    assert session.show_hit(0) == [ShowMessage(A2)]
    found(session, Hit(CHAT, "One", A2))
    session.library.search("other")
    session.handle(SearchSeen("other", (Hit(CHAT, "One", MessageId("gone")),)))
    session.show_hit(0)
    session.handle(BranchNotChanged(CHAT, "There is no such message."))
    assert not session.conversation.busy


def test_a_title_that_was_found_opens_its_chat_at_the_end() -> None:
    session = Session()
    found(session, Hit(CHAT, "One"))
    session.show_hit(0)
    instructions = session.handle(seen(Turn(A1, Speaker.MODEL, "word", ending=COMPLETE)))
    assert instructions == [Follow()]


def test_an_older_search_does_not_replace_a_newer_one() -> None:
    session = Session()
    assert session.library.search(" one ") == [SearchChats("one")]
    assert session.library.search("one") == []
    session.library.search("two")
    session.handle(SearchSeen("one", (Hit(CHAT, "One"),)))
    assert session.library.hits == ()
    assert session.show_hit(1) == []


def test_an_older_reading_of_a_chat_does_not_take_back_where_an_answer_runs() -> None:
    session = answering()
    session.handle(AnswerPlaced(GENERATION, "studio: warm", "echo"))
    turns = tuple(replace(turn, model="", reason="") for turn in session.conversation.turns)
    session.handle(ChatSeen(ChatSummary(CHAT, "One"), turns))
    assert (session.conversation.turns[-1].model, session.conversation.turns[-1].reason) == (
        "echo",
        "studio: warm",
    )


# --- A scheduler that is away --------------------------------------------------------------------


def test_a_prompt_waits_for_a_scheduler_that_is_away_and_goes_when_it_is_back() -> None:
    session = answered()
    session.handle(PoolSeen(PoolView(chats_revision=1)))
    session.handle(ConnectionLost())
    assert session.conversation.send(Question("next")) == []
    assert session.conversation.send(Question("last")) == []
    assert session.conversation.draft("typed") == "next\n\nlast\n\ntyped"
    back = session.handle(PoolSeen(PoolView(chats_revision=1)))
    assert Submit(session.conversation.visit, session.conversation.chat, Question("next")) in back
    assert [question.text for question in session.conversation.queue] == ["last"]


def test_a_prompt_that_the_scheduler_may_have_taken_is_sent_again_first() -> None:
    session = Session()
    session.handle(PoolSeen(PoolView(chats_revision=1)))
    (submit,) = session.conversation.send(Question("hello"))
    session.conversation.send(Question("next"))
    lost = SubmitFailed(0, NEW_CHAT, Question("hello"), "Away.", unreachable=True)
    assert session.handle(lost) == []
    assert session.conversation.turns == ()
    assert submit in session.handle(PoolSeen(PoolView(chats_revision=1)))
    assert texts(session) == ["hello"]


def test_a_chat_that_could_not_be_read_is_read_before_what_waits_for_it_is_sent() -> None:
    session = Session()
    session.handle(PoolSeen(PoolView()))
    session.open_chat(CHAT)
    session.handle(ConnectionLost())
    session.conversation.send(Question("hello"))
    assert FetchChat(CHAT, 0) in session.handle(PoolSeen(PoolView()))
    said = session.handle(ChatSeen(ChatSummary(CHAT, "One"), ()))
    assert Submit(session.conversation.visit, session.conversation.chat, Question("hello")) in said
