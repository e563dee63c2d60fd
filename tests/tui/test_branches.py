from __future__ import annotations

import asyncio
from pathlib import Path

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.views import Speaker
from tui.real_stage import ask, real_stage
from tui.stage import LARGE, until


async def test_a_question_is_edited_into_a_branch_and_back(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Why blue?", "Rayleigh.")
        await pilot.press(*"half", "tab")
        await until(pilot, lambda: app.shows("▌ Rayleigh."))
        await pilot.press("e")
        await until(pilot, lambda: app.prompt.text == "Why blue?")
        assert app.shows("asking anew, esc leaves it")
        await ask(pilot, app, " Really?", "Yes.")
        assert app.shown_texts == ["Why blue? Really?", "Yes."]
        await until(pilot, lambda: app.shows("> ‹2/2› Why blue? Really?"))
        assert app.prompt.text == "half"
        await pilot.press("tab", "up", "left")
        await until(pilot, lambda: app.shows("▌ ‹1/2› Why blue?") and app.shows("Rayleigh."))
        await pilot.press("left")
        await until(pilot, lambda: app.shows("This is the last."))
        await pilot.press("right")
        await until(pilot, lambda: app.shows("Yes."))


async def test_an_edit_is_left_by_escape_with_what_was_typed_before(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Why blue?", "Rayleigh.")
        await pilot.press(*"half", "tab", "e")
        await until(pilot, lambda: app.prompt.text == "Why blue?")
        await pilot.press("escape")
        await until(pilot, lambda: app.prompt.text == "half")
        assert app.session.conversation.editing is None


async def test_an_answer_is_made_again_and_the_selection_follows(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        app.will_say("Tom.")
        await pilot.press("tab", "r")
        await until(pilot, lambda: app.shows("▌ ‹2/2› echo") and app.shows("▌ Tom."))
        await until(pilot, lambda: not app.session.conversation.busy)
        await pilot.press("left")
        await until(pilot, lambda: app.shows("▌ ‹1/2› echo") and app.shows("▌ Mia."))


async def test_a_branch_stays_where_the_message_stood_from_which_one_went_to_it(
    short_tmp: Path,
) -> None:
    long = "\n\n".join(f"Paragraph {number}." for number in range(60))
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Long?", long)
        app.will_say("Short.")
        await pilot.press("tab", "r")
        await until(pilot, lambda: app.shows("▌ Short.") and not app.session.conversation.busy)
        # The question is at the top of the window, and its answer below it.
        assert app.shows("> Long?")
        await pilot.press("left")
        await until(pilot, lambda: app.shows("▌ Paragraph 0."))
        await until(pilot, lambda: app.shows("more below: ctrl+end"))
        await pilot.press("right")
        await until(pilot, lambda: app.shows("▌ Short.") and app.shows("> Long?"))
        await until(pilot, lambda: not app.shows("more below"))


async def test_a_key_for_an_answer_takes_the_one_below_the_question(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        await pilot.press("tab", "up", "c")
        await until(pilot, lambda: app.shows("This answer is complete."))
        await pilot.press("b")
        await until(pilot, lambda: app.shows("Who answers as well?"))


async def test_escape_twice_stops_the_answer_from_the_messages_too(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        opened = asyncio.Event()
        app.worker.gate = lambda _: opened.wait()
        await pilot.press("tab", "r")
        await until(pilot, lambda: len(app.session.conversation.under_way) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Esc again stops the answer"))
        assert app.focused is app.prompt
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Stopped."))


async def test_another_model_answers_again_by_its_number(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        await pilot.press("tab", "R")
        await until(pilot, lambda: app.shows("Who answers again?") and app.shows("2 other"))
        await pilot.press("2")
        await until(pilot, lambda: app.shows("‹2/2› other") and not app.session.conversation.busy)
        assert app.worker.asked[-1].model == "other"


async def test_a_stopped_answer_goes_on_where_it_was(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        opened = asyncio.Event()

        app.will_say("one ", "two ", "three ")
        app.worker.gate = lambda number: opened.wait() if number == 1 else None
        app.prompt.insert("Count")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("one"))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.shows("Stopped. Go on from here with tab, then c."))
        opened.set()
        app.worker.script = app.worker.script[1:]
        await pilot.press("tab", "c")
        await until(pilot, lambda: app.shows("one two three") and not app.session.conversation.busy)
        assert app.shows("↪ after “one” continued, on studio")
        await pilot.press("c")
        await until(pilot, lambda: app.shows("This answer is complete."))


async def test_a_branch_that_another_viewer_chooses_shows_here(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        first = app.session.conversation.turns[-1].message_id
        app.will_say("Tom.")
        await pilot.press("tab", "r")
        await until(pilot, lambda: app.shows("▌ Tom.") and not app.session.conversation.busy)
        select = pb.SelectBranchRequest(chat_id=app.session.conversation.chat_id, message_id=first)
        await app.client.call(app.client.stub.SelectBranch, select)
        await until(pilot, lambda: app.shows("▌ ‹1/2› echo") and app.shows("▌ Mia."))


async def test_two_models_answer_side_by_side_where_there_is_room(short_tmp: Path) -> None:
    async with real_stage(short_tmp, size=LARGE) as (app, pilot):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: app.shows("Pick a model"))
        await pilot.press(*"other", "tab")
        await until(pilot, lambda: app.shows("echo and other"))
        await ask(pilot, app, "Name?", "Mia ", "or Tom.")
        await until(pilot, lambda: sum(row.count("Mia or Tom.") for row in app.rows()) == 2)
        (row,) = [row for row in app.rows() if "Mia or Tom." in row]
        assert row.count("Mia or Tom.") == 2
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: len([r for r in app.rows() if "Mia or Tom." in r]) == 2)
        assert app.shows("‹2/2› other (enter: go on from this one)")
        await pilot.press("tab", "down", "enter")
        await until(pilot, lambda: app.shows("‹1/2› echo (enter: go on from this one)"))
        await pilot.press("tab")
        await ask(pilot, app, "And?", "Yes.")
        answers = [t for t in app.session.conversation.turns if t.speaker is Speaker.MODEL]
        assert [turn.model for turn in answers if turn.shown] == ["other", "echo"]


async def test_both_answers_side_by_side_can_be_stopped(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        opened = asyncio.Event()
        app.worker.gate = lambda _: opened.wait()
        await pilot.press("tab", "b")
        await until(pilot, lambda: app.shows("Who answers as well?"))
        await pilot.press("2")
        await until(pilot, lambda: len(app.session.conversation.under_way) == 1)
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.shows("Stopped."))
        opened.set()


async def test_thoughts_are_folded_and_unfold(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "<think>", "A cat, ", "so short.", "</think>", "Mia.")
        await until(pilot, lambda: app.shows("▸ thought") and app.shows(" s, 4 words"))
        assert not app.shows("A cat, so short.")
        await pilot.press("tab", "space")
        await until(pilot, lambda: app.shows("▌ A cat, so short."))
        await pilot.press("space")
        await until(pilot, lambda: not app.shows("A cat, so short."))


async def test_what_failed_can_go_on(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        error = types.Error(code=types.ERROR_CODE_ENGINE_DIED, message="It died.", retryable=True)
        app.worker.end = types.End(reason=types.END_REASON_FAILED, error=error)
        await ask(pilot, app, "Count", "one ")
        await until(pilot, lambda: app.shows("It died."))
        app.worker.end = types.End(reason=types.END_REASON_END_OF_TURN)
        app.will_say("one ", "two")
        app.worker.script = app.worker.script[1:]
        await pilot.press("tab", "c")
        await until(pilot, lambda: app.shows("one two") and not app.session.conversation.busy)
