from __future__ import annotations

import pytest

from potluck_proto.ids import ChatId, GenerationId
from potluck_tui.events import PoolSeen
from potluck_tui.instructions import Announce
from potluck_tui.notices import LongAnswers, sequence, suited
from potluck_tui.pool import PoolView
from potluck_tui.preferences import Notice
from potluck_tui.session import Session
from tui.stage import StagedApp, staged, until

A, B = ChatId("a"), ChatId("b")
FIRST, SECOND = GenerationId("1"), GenerationId("2")


def test_a_long_answer_is_told_once_when_it_ends() -> None:
    answers = LongAnswers(10.0)
    assert answers.seen({A: FIRST}, 0.0) == []
    assert answers.seen({A: FIRST, B: SECOND}, 8.0) == []
    assert answers.seen({B: SECOND}, 10.0) == [A]
    assert answers.seen({}, 12.0) == []


def test_an_answer_that_is_followed_by_another_has_ended() -> None:
    answers = LongAnswers(10.0)
    answers.seen({A: FIRST}, 0.0)
    assert answers.seen({A: SECOND}, 11.0) == [A]
    assert answers.seen({}, 12.0) == []


def test_the_session_announces_it() -> None:
    session = Session()
    session.handle(PoolSeen(PoolView(active={A: FIRST}), 1.0))
    told = session.handle(PoolSeen(PoolView(), 99.0))
    assert Announce(A, "") in told


@pytest.mark.parametrize(
    ("environment", "notice"),
    [
        ({"TERM": "xterm-kitty"}, Notice.OSC99),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, Notice.OSC9),
        ({"TERM": "xterm-ghostty", "TMUX": "/x,1,0"}, Notice.BELL),
        ({"TERM": "xterm-256color"}, Notice.BELL),
    ],
)
def test_the_kind_of_notice_suits_the_terminal(environment: dict[str, str], notice: Notice) -> None:
    assert suited(Notice.AUTO, environment) is notice
    assert suited(Notice.NONE, environment) is Notice.NONE


def test_a_notice_is_one_sequence() -> None:
    assert sequence(Notice.BELL, "words") == "\x07"
    assert sequence(Notice.OSC9, "words") == "\x1b]9;words\x07"
    assert sequence(Notice.OSC99, "words") == "\x1b]99;;words\x1b\\"
    assert sequence(Notice.NONE, "words") == ""


async def test_the_end_of_an_answer_elsewhere_is_shown_and_of_the_one_in_sight_is_not(
    app: StagedApp,
) -> None:
    async with staged(app, (120, 40)) as pilot:
        app.do([Announce(ChatId("elsewhere"), "Names for a cat")])
        await until(pilot, lambda: app.shows("Potluck has answered: Names for a cat"))
        app.do([Announce(app.session.conversation.chat_id, "This one")])
        await pilot.pause()
        assert not app.shows("This one")
