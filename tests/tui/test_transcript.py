from __future__ import annotations

from potluck_tui.document import TURNS_AT_FIRST, Document
from tui import samples
from tui.stage import StagedApp, staged, until

LONG = "\n\n".join(f"paragraph {number}" for number in range(40))


async def test_scrolling_up_stops_following_until_the_end_is_back(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        answer = app.scheduler.last_answer
        await answer.write(LONG)
        await until(pilot, lambda: app.shows("paragraph 39"))
        await pilot.press("pageup", "pageup")
        await until(pilot, lambda: app.shows("answering, more below: ctrl+end"))
        top = app.transcript.scroll_offset.y
        await answer.write("\n\nlast words")
        await until(pilot, lambda: app.session.conversation.last_answer.endswith("last words"))
        await pilot.pause(0.2)
        assert app.transcript.scroll_offset.y == top
        assert not app.shows("last words")
        await pilot.press("ctrl+end")
        await until(pilot, lambda: app.shows("last words"))
        await answer.end()
        await until(pilot, lambda: app.shows("tokens/s"))


async def test_a_resize_in_mid_stream_draws_everything_at_the_new_width(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        answer = app.scheduler.last_answer
        await answer.write("word " * 30)
        await until(pilot, lambda: app.shows("word word"))
        await pilot.resize_terminal(40, 20)
        await answer.write("the end 漢字 👍")
        await until(pilot, lambda: app.shows("the end"))
        rows = [row for row in app.rows() if "word" in row]
        assert len(rows) >= 4
        assert all(len(row) <= 40 for row in rows)
        await pilot.resize_terminal(120, 30)
        await until(pilot, lambda: app.transcript.size.width > 80)
        await until(pilot, lambda: app.shows("the end 漢字 👍"))


async def test_a_long_chat_is_drawn_from_its_end_and_upwards_on_demand(app: StagedApp) -> None:
    turns = [(f"question {n}", f"answer {n}") for n in range(100)]
    app.scheduler.add_chat("c1", "Long", *turns)
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("answer 99"))
        await pilot.press("ctrl+home")
        await until(pilot, lambda: not app.shows("answer 99"))
        for _ in range(10):
            await pilot.press("ctrl+home")
        await until(pilot, lambda: app.shows("question 0"))


async def test_what_streamed_is_what_a_new_look_shows(app: StagedApp) -> None:
    async with staged(app, size=(100, 50)) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        answer = app.scheduler.last_answer
        for piece in samples.pieces(samples.ANSWER, 40):
            await answer.write(piece)
        await answer.end()
        await until(pilot, lambda: app.shows("tokens/s"))
        width = app.transcript.size.width
        fresh = Document(width)
        fresh.show(app.session.conversation.turns)
        shown = [line.text for line in app.transcript._document.lines]
        assert shown == [line.text for line in fresh.lines]


def test_only_the_newest_turns_are_drawn_at_first() -> None:
    document = Document(80)
    assert TURNS_AT_FIRST < 1000
    document.show([])
    assert document.hidden_turns == 0
    assert not document.show_earlier()
