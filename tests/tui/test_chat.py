from __future__ import annotations

import json
from pathlib import Path

from potluck_proto.errors import UnknownModel
from potluck_proto.v1 import types_pb2
from potluck_tui.views import NEW_CHAT
from tui import samples
from tui.fake_scheduler import Reply
from tui.stage import StagedApp, make_stage, staged, type_text, until


async def test_a_question_is_answered_with_its_reason(app: StagedApp) -> None:
    app.scheduler.replies.append(Reply(["Because ", "of **Rayleigh** scattering."]))
    async with staged(app) as pilot:
        await type_text(pilot, "why?")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("tokens/s"))
        assert app.shows("> why?")
        assert app.shows("Because of Rayleigh scattering.")
        assert app.shows("studio: in memory, 1 of 4 slots busy")
        assert app.prompt.text == ""
    assert app.scheduler.submitted[0].content == "why?"


async def test_keys_act_in_the_order_of_typing_however_fast(app: StagedApp) -> None:
    async with staged(app) as pilot:
        # As a slow link delivers them: all at once.
        app.simulate_key("a")
        app.simulate_key("b")
        app.simulate_key("backspace")
        app.simulate_key("c")
        app.simulate_key("enter")
        app.simulate_key("d")
        await until(pilot, lambda: bool(app.scheduler.submitted) and app.prompt.text == "d")
    assert app.scheduler.submitted[0].content == "ac"


async def test_ctrl_j_is_a_newline_and_the_prompt_grows(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "ctrl+j", "b")
        await until(pilot, lambda: app.prompt.size.height == 2)
        await pilot.press(*["ctrl+j"] * 9)
        await until(pilot, lambda: app.prompt.size.height == 6)
        assert not app.scheduler.submitted


async def test_prompts_wait_visibly_while_an_answer_comes(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: len(app.scheduler.submitted) == 1)
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        await pilot.press("b", "enter", "c")
        await until(pilot, lambda: app.shows("(waits for the answer)"))
        assert app.shows("1 waiting")
        assert app.prompt.text == "c"
        await app.scheduler.last_answer.end()
        await until(pilot, lambda: len(app.scheduler.submitted) == 2)
        await until(pilot, lambda: not app.shows("(waits for the answer)"))
    assert [request.content for request in app.scheduler.submitted] == ["a", "b"]


async def test_one_escape_never_stops_and_two_do(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        await app.scheduler.last_answer.write("half an ans")
        await until(pilot, lambda: app.shows("half an ans"))
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Esc again stops the answer"))
        await pilot.press("x")
        await pilot.press("escape")
        assert not app.scheduler.stopped
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Stopped."))
        assert app.shows("half an ans")
        assert app.scheduler.stopped == ["g1"]


async def test_a_refused_prompt_returns_with_the_sentence(app: StagedApp) -> None:
    app.scheduler.replies.append(UnknownModel("No node has the model x. Pick one with ctrl+p."))
    async with staged(app) as pilot:
        await type_text(pilot, "hello")
        await pilot.press("enter")
        await until(pilot, lambda: app.prompt.text == "hello")
        await until(pilot, lambda: app.shows("No node has the model x."))
        assert app.session.conversation.turns == ()


async def test_a_failed_answer_keeps_its_text_and_says_what_to_do(app: StagedApp) -> None:
    error = types_pb2.Error(message="studio is gone.", retryable=True)
    end = types_pb2.End(reason=types_pb2.END_REASON_FAILED, error=error)
    app.scheduler.replies.append(Reply(["It was "], end=end))
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: app.shows("studio is gone."))
        assert app.shows("It was")
        assert app.shows("Trying again may help")
        await pilot.press("up")
        await until(pilot, lambda: app.prompt.text == "a")


async def test_an_answer_names_the_model_that_was_chosen_for_it_later(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        answer = app.scheduler.last_answer
        answer.message.explanation.model, answer.message.explanation.quantization = "bee", "Q4"
        await answer.place("studio: loaded now")
        await until(pilot, lambda: app.shows("studio: loaded now · bee:Q4"))


async def test_an_empty_answer_says_so(app: StagedApp) -> None:
    app.scheduler.replies.append(Reply([]))
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: app.shows("without a word"))


async def test_a_restarted_terminal_shows_the_answer_under_way(
    app: StagedApp, short_tmp: Path
) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        await app.scheduler.last_answer.write("The first half ")
        await until(pilot, lambda: app.shows("The first half"))
    again = make_stage(short_tmp)
    again.scheduler.chats, again.scheduler.answers = app.scheduler.chats, app.scheduler.answers
    async with staged(again) as pilot:
        await until(pilot, lambda: again.shows("The first half"))
        await until(pilot, lambda: again.scheduler.last_answer.viewers == 1)
        await again.scheduler.last_answer.write("and the second.")
        await until(pilot, lambda: again.shows("The first half and the second."))
        await again.scheduler.last_answer.end()
        await until(pilot, lambda: not again.session.conversation.under_way)


async def test_a_lost_connection_shows_and_heals_without_a_gap(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        await app.scheduler.last_answer.write("one ")
        await until(pilot, lambda: app.shows("one"))
        await app.scheduler.stop()
        await until(pilot, lambda: app.shows("no connection to the scheduler"))
        await pilot.press("b")
        assert app.prompt.text == "b"
        app.scheduler.last_answer.message.content += "two "
        await app.scheduler.start()
        await until(pilot, lambda: app.shows("one two"))
        await app.scheduler.last_answer.write("three")
        await until(pilot, lambda: app.shows("one two three"))
        await until(pilot, lambda: not app.shows("no connection"))


async def test_a_silent_scheduler_is_said_to_be_and_heals(app: StagedApp) -> None:
    app.scheduler.frozen = True
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("no word from the scheduler for 3 s"))
        app.scheduler.frozen = False
        app.scheduler.change_pool(app.scheduler.pool)
        await until(pilot, lambda: not app.shows("no word from the scheduler"))
        assert app.shows("ready")


async def test_a_scheduler_of_another_version_that_took_the_place_is_said(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await app.scheduler.stop()
        app.scheduler.protocol_version += 1
        await app.scheduler.start()
        await until(pilot, lambda: app.shows("potluck down"))
        assert app.shows("no connection to the scheduler: leave, and open it again")


async def test_drafts_survive_a_restart_and_belong_to_their_chat(
    app: StagedApp, short_tmp: Path
) -> None:
    app.scheduler.add_chat("c1", "First", ("q", "answer one"), age_seconds=10)
    app.scheduler.add_chat("c2", "Second", ("q", "answer two"), age_seconds=20)
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("answer one"))
        await type_text(pilot, "half")
        await pilot.press("ctrl+o", "down", "enter")
        await until(pilot, lambda: app.shows("answer two"))
        assert app.prompt.text == ""
        await pilot.press("ctrl+o", "up", "enter")
        await until(pilot, lambda: app.prompt.text == "half")
        await pilot.press("x")
        await until(pilot, lambda: saved(short_tmp) == {"c1": "halfx"})
    again = make_stage(short_tmp)
    again.scheduler.chats = app.scheduler.chats
    async with staged(again) as pilot:
        await until(pilot, lambda: again.prompt.text == "halfx")


def saved(folder: Path) -> object:
    return json.loads((folder / "drafts.json").read_text())


async def test_a_chat_is_renamed_deleted_and_taken_back(app: StagedApp) -> None:
    app.scheduler.add_chat("c1", "First", ("q", "answer one"))
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("answer one"))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.shows("Title of the chat"))
        await pilot.press("end", "ctrl+u")
        await type_text(pilot, "Other")
        await pilot.press("enter")
        await until(pilot, lambda: app.scheduler.chats["c1"].chat.title == "Other")
        await until(pilot, lambda: app.shows("Other"))
        await pilot.press("f8")
        await until(pilot, lambda: not app.scheduler.chats)
        await until(pilot, lambda: app.session.conversation.chat_id == NEW_CHAT)
        await until(pilot, lambda: app.shows("f9 brings it back"))
        await pilot.press("f9")
        await until(pilot, lambda: [c.title for c in app.session.library.chats] == ["Other"])


async def test_a_model_is_picked_by_typing(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await until(pilot, lambda: bool(app.session.pool.models))
        await pilot.press("ctrl+p")
        await until(pilot, lambda: app.shows("now"))
        await type_text(pilot, "opt")
        await until(pilot, lambda: app.shows("llama.cpp does not run the architecture opt"))
        await pilot.press("enter")
        assert len(app.screen_stack) == 2
        await pilot.press("backspace", "backspace", "backspace")
        await type_text(pilot, "qwen")
        await pilot.press("enter")
        await until(
            pilot, lambda: app.session.conversation.chat.model == "qwen2.5-32b-instruct:Q5_K_M"
        )
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.scheduler.submitted))
    assert app.scheduler.submitted[0].model == "qwen2.5-32b-instruct:Q5_K_M"


async def test_the_machines_are_live_and_tell_their_problems(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("f4")
        await until(pilot, lambda: app.shows("old-laptop"))
        await pilot.press("down", "down")
        await until(pilot, lambda: app.shows("old-laptop has no engine"))
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("pip install 'potluck[llama]' on old-laptop"))
        await pilot.press("escape")
        pool = samples.house()
        del pool.nodes[3]
        pool.nodes[0].state.tokens_per_second = 99
        app.scheduler.change_pool(pool)
        await until(pilot, lambda: app.shows(" 99 ") and not app.shows("attic"))
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)


async def test_the_last_answer_is_copied_and_the_place_is_said(
    app: StagedApp, short_tmp: Path
) -> None:
    app.scheduler.add_chat("c1", "First", ("q", "copy *me*"))
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("copy me"))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: app.shows("Copied 9 characters"))
        assert app.clipboard == "copy *me*"
    assert (short_tmp / "copied.md").read_text() == "copy *me*"


async def test_leaving_says_that_the_answer_goes_on_and_keeps_the_draft(
    app: StagedApp, short_tmp: Path
) -> None:
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        await pilot.press("b", "ctrl+q")
        await pilot.pause()
    assert not app.scheduler.stopped
    assert saved(short_tmp) == {"c1": "b"}


async def test_every_key_can_be_rebound(app: StagedApp) -> None:
    app.set_keymap({"chat.new": "f9", "prompt.send": "f10"})
    app.scheduler.add_chat("c1", "First", ("q", "answer one"))
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("answer one"))
        await pilot.press("f9")
        await until(pilot, lambda: app.session.conversation.chat_id == NEW_CHAT)
        await pilot.press("a", "f10")
        await until(pilot, lambda: len(app.scheduler.submitted) == 1)


async def test_a_hostile_answer_cannot_act_on_the_terminal(app: StagedApp) -> None:
    app.scheduler.replies.append(Reply(["a\x1b]52;c;eA==\x07b", "\x1b[2J", "[bold]c[/x]\u202ed"]))
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: app.shows("tokens/s"))
        assert app.shows("a�]52;c;eA==�b�[2J[bold]c[/x]�d")
        assert not any("\x1b" in row for row in app.rows())
