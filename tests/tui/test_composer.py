from __future__ import annotations

from pathlib import Path

import pytest
from textual import events

from tui.real_stage import RealApp, ask, real_stage
from tui.stage import StagedApp, staged, until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the terminal was started in."""
    (tmp_path / "notes-one.txt").write_text("one\n")
    (tmp_path / "notes-two.txt").write_text("two\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_a_file_is_completed_attached_and_shown_folded(folder: Path, short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        app.prompt.insert("Read @n")
        await pilot.press("tab")
        await until(pilot, lambda: app.prompt.text == "Read @notes-")
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("notes-one.txt  notes-two.txt"))
        await pilot.press("t", "tab")
        await until(pilot, lambda: app.prompt.text == "Read @notes-two.txt ")
        await until(pilot, lambda: app.shows("with notes-two.txt (4 B)"))
        await ask(pilot, app, "please", "Read.")
        await until(pilot, lambda: app.shows("+ notes-two.txt, 4 B, 1 line"))
        (message,) = app.worker.asked[-1].messages
        assert message.content == (
            "File: notes-two.txt\n```\ntwo\n```\n\nRead @notes-two.txt please"
        )
        await pilot.press("tab", "up", "space")
        await until(pilot, lambda: app.shows("▌ two"))


async def test_an_edited_question_keeps_the_file_that_it_had(folder: Path, short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Read @notes-one.txt", "Read.")
        (folder / "notes-one.txt").unlink()
        await pilot.press("tab", "e")
        await until(pilot, lambda: app.prompt.text == "Read @notes-one.txt")
        await until(pilot, lambda: app.shows("with notes-one.txt (4 B)"))
        await ask(pilot, app, " again", "Again.")
        assert app.worker.asked[-1].messages[0].content.startswith("File: notes-one.txt\n")


async def test_a_file_that_cannot_go_along_gives_the_prompt_back(
    folder: Path, app: StagedApp
) -> None:
    (folder / "blob").write_bytes(b"\0")
    async with staged(app) as pilot:
        app.prompt.insert("What is @blob")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("blob is not text"))
        assert app.prompt.text == "What is @blob"
        assert not app.scheduler.submitted


async def test_a_paste_of_several_lines_is_one_paste(app: StagedApp) -> None:
    async with staged(app) as pilot:
        app.prompt.post_message(events.Paste("one\r\ntwo\rthree\x1b[2J"))
        await until(pilot, lambda: app.prompt.text == "one\ntwo\nthree�[2J")
        assert not app.scheduler.submitted


async def test_a_megabyte_that_is_pasted_is_attached_as_a_file(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        pasted = "word " * 200_000
        app.prompt.post_message(events.Paste(pasted))
        await until(pilot, lambda: app.prompt.text == "@pasted-1.txt ")
        await until(pilot, lambda: app.shows("with pasted-1.txt (977 KiB)"))
        await ask(pilot, app, "Shorten this", "It says word.")
        (turn, _) = app.session.conversation.turns
        assert [len(file.content) for file in turn.files] == [len(pasted)]


async def test_a_long_paste_behind_a_word_is_attached_too(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        app.prompt.insert("See")
        app.prompt.post_message(events.Paste("word " * 20_000))
        await until(pilot, lambda: app.prompt.text == "See @pasted-1.txt ")
        await until(pilot, lambda: app.shows("with pasted-1.txt"))


async def test_a_path_that_names_no_file_is_said_before_it_is_sent(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        app.prompt.insert("Read @gone.txt now")
        await until(pilot, lambda: app.shows("no file: gone.txt"))


async def test_control_c_says_how_to_leave_where_nothing_is_selected(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app.shows("ctrl+q leaves; answers go on."))
        await ask(pilot, app, "Name?", "Mia.")
        app.clear_notifications()
        await pilot.press("tab", "ctrl+c")
        await until(pilot, lambda: app.shows("ctrl+q leaves; answers go on."))


async def test_more_than_a_prompt_may_have_is_refused_with_the_numbers(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        (app.home.pasted).mkdir()
        (app.home.pasted / "full.txt").write_text("x" * 2**20)
        app.prompt.insert("@full.txt")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("The prompt has 1,048,585 bytes; the limit is"))
        assert app.prompt.text == "@full.txt"


async def test_tab_goes_to_the_messages_where_no_path_is_typed(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        await pilot.press(*"ada@", "tab")
        await until(pilot, lambda: app.shows("▌ Mia."))
        await pilot.press("tab")
        await until(pilot, lambda: app.focused is app.prompt)
        assert isinstance(app, RealApp)
