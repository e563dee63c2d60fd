"""Terminals that are small, or have no colours."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from potluck_proto.ids import ChatId, MessageId
from potluck_tui.colourless import Colourless
from potluck_tui.preferences import Preferences, Read
from potluck_tui.screens.search import found_row
from potluck_tui.terminal_profile import ColourSystem, TerminalProfile
from potluck_tui.views import Hit
from tui import samples
from tui.stage import StagedApp, make_stage, staged, until

TINY = (40, 16)


@pytest.mark.parametrize("size", [TINY, (80, 24)])
async def test_a_newcomer_sees_how_to_get_help_and_how_to_leave(
    app: StagedApp, size: tuple[int, int]
) -> None:
    async with staged(app, size) as pilot:
        await until(pilot, lambda: app.shows("f1 help  ^q quit"))


@pytest.mark.parametrize("key", ["f1", "ctrl+s", "ctrl+f", "ctrl+l", "ctrl+p"])
async def test_every_dialog_shows_the_way_back_in_the_smallest_terminal(
    app: StagedApp, key: str
) -> None:
    app.scheduler.pool = samples.house()
    async with staged(app, TINY) as pilot:
        await until(pilot, lambda: app.shows("ready"))
        await pilot.press(key)
        await until(pilot, lambda: app.shows("esc back"))


async def test_the_help_leaves_room_for_its_words_in_the_smallest_terminal(app: StagedApp) -> None:
    async with staged(app, TINY) as pilot:
        await pilot.press("f1")
        await until(pilot, lambda: app.shows("answer comes, the"))
        assert not app.shows("…")


async def test_the_help_names_the_ids_of_keys_where_there_is_room(app: StagedApp) -> None:
    async with staged(app, (100, 24)) as pilot:
        await pilot.press("f1")
        await until(pilot, lambda: app.shows("prompt.newline"))


async def test_the_newest_note_alone_is_shown(app: StagedApp) -> None:
    async with staged(app) as pilot:
        app.notify("one note")
        app.notify("another note")
        await until(pilot, lambda: app.shows("another note"))
        assert not app.shows("one note")


async def test_a_note_is_no_wider_than_the_smallest_terminal(app: StagedApp) -> None:
    words = [f"word{number}" for number in range(12)]
    async with staged(app, TINY) as pilot:
        app.notify(" ".join(words))
        await until(pilot, lambda: all(app.shows(word) for word in words))


def test_what_a_search_found_is_in_sight_in_the_smallest_terminal() -> None:
    snippet = (("…what stands before the word takes more than a line of ", False), ("it", True))
    row = found_row(Hit(ChatId("c1"), "One", MessageId("m1"), snippet), TINY[0])
    assert row.plain == "One\n  …than a line of it"
    row = found_row(Hit(ChatId("c1"), "One", MessageId("m1"), snippet), 200)
    assert row.plain == f"One\n  {snippet[0][0]}it"


async def test_in_sixteen_colours_a_note_has_the_background_of_the_terminal(
    short_tmp: Path,
) -> None:
    app = make_stage(short_tmp, profile=TerminalProfile(colours=ColourSystem.SIXTEEN))
    async with staged(app) as pilot:
        app.notify("a note")
        await until(pilot, lambda: app.shows("a note"))
        segments = [
            segment for strip in app.screen._compositor.render_strips() for segment in strip
        ]
        (note,) = [segment for segment in segments if "a note" in segment.text]
        assert note.style
        assert note.style.bgcolor is None or note.style.bgcolor.is_default


async def test_all_that_is_wrong_with_the_settings_is_said_at_once(short_tmp: Path) -> None:
    app = make_stage(short_tmp, preferences=Read(Preferences(), ("One is odd.", "Two as well.")))
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("One is odd.") and app.shows("Two as well."))


async def test_without_colours_nothing_is_drawn_in_one_and_what_is_chosen_is_reversed(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_stage(short_tmp, preferences=Read(Preferences(theme="nord")))
    app.scheduler.add_chat("c1", "First", ("q", "an `answer` of *one*"), age_seconds=10)
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("an answer"))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: app.shows("open"))
        segments = [
            segment for strip in app.screen._compositor.render_strips() for segment in strip
        ]
        styles = [segment.style for segment in segments if segment.style]
        assert all(style.color is None or style.color.is_default for style in styles)
        assert all(style.bgcolor is None or style.bgcolor.is_default for style in styles)
        chosen = [segment.style for segment in segments if "First" in segment.text]
        assert any(style is not None and style.reverse for style in chosen)


def test_a_background_of_the_palette_is_shown_by_reversing_and_a_shade_is_not() -> None:
    styles = [Style(bgcolor="cyan"), Style(bgcolor="default"), Style(bgcolor="#202020")]
    lines = Colourless().apply([Segment("x", style) for style in styles], Color(0, 0, 0))
    assert [bool(line.style and line.style.reverse) for line in lines] == [True, False, False]
