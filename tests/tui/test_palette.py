from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from potluck_tui.ascii_only import as_ascii
from potluck_tui.preferences import Preferences, Read
from potluck_tui.terminal_profile import ColourSystem, TerminalProfile
from tui import samples
from tui.fake_scheduler import Reply
from tui.stage import LARGE, SMALL, StagedApp, make_stage, staged, type_text, until

Compare = Callable[..., bool]
Size = tuple[int, int]
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x50"])

PLAIN = TerminalProfile(ascii=True, colours=ColourSystem.SIXTEEN)
"""A terminal with sixteen colours and nothing but ASCII."""


async def find(pilot: Pilot[None], app: StagedApp, words: str, shown: str) -> None:
    """Open the palette and type until a row is there."""
    await pilot.press("ctrl+l")
    await until(pilot, lambda: app.shows("Do or go to"))
    await type_text(pilot, words)
    await until(pilot, lambda: app.shows(shown))


async def test_words_that_nothing_has_are_answered(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await find(pilot, app, "xyzzy", "Nothing that can be done here is called so.")
        await pilot.press("enter")
        assert app.shows("xyzzy")


# --- Pictures ------------------------------------------------------------------------------------


@SIZES
def test_palette(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.session.connected is True)
        await find(pilot, app, "mach", "machine studio")
        await until(pilot, lambda: app.shows("nodes ready"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_plain_answer(short_tmp: Path, snap_compare: Compare, size: Size) -> None:
    app = make_stage(short_tmp, profile=PLAIN)
    app.scheduler.pool = samples.house()
    app.scheduler.add_chat("old", "Größe der Bäume 🌳", ("q", "a"), age_seconds=90_000)
    app.scheduler.replies.append(Reply(samples.pieces(samples.ANSWER)))

    async def stage(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.session.connected is True)
        await type_text(pilot, "What fits")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("tokens/s") and not app.session.conversation.under_way)
        await until(pilot, lambda: len(app.session.library.chats) == 2)
        await until(pilot, lambda: not app.session.library.chats[0].active)

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_plain_machines(short_tmp: Path, snap_compare: Compare, size: Size) -> None:
    app = make_stage(short_tmp, profile=PLAIN)
    app.scheduler.pool = samples.house()

    async def stage(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.session.connected is True)
        await pilot.press("f4")
        await until(pilot, lambda: app.shows("old-laptop"))
        await pilot.press("end")
        await until(pilot, lambda: app.shows("38% busy"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


def test_light(short_tmp: Path, snap_compare: Compare) -> None:
    app = make_stage(short_tmp, preferences=Read(Preferences(theme="potluck-light")))
    app.scheduler.pool = samples.house()

    async def stage(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.session.connected is True)
        await pilot.press("f4")
        await until(pilot, lambda: app.shows("old-laptop"))

    assert snap_compare(app, terminal_size=SMALL, run_before=stage)


# --- Doing and going -----------------------------------------------------------------------------


async def test_a_command_is_done_where_the_reader_was(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("f4")
        await until(pilot, lambda: app.shows("by name"))
        await find(pilot, app, "sort", "Sort by the next figure")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("by state"))


async def test_one_goes_to_a_machine_a_chat_and_a_model_from_anywhere(app: StagedApp) -> None:
    app.scheduler.add_chat("c1", "Names for a cat", ("q", "Mia"), age_seconds=90_000)
    async with staged(app) as pilot:
        await until(pilot, lambda: bool(app.session.library.chats))
        await find(pilot, app, "machine studio", "machine studio")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("RTX 4080"))
        await find(pilot, app, "chat names", "chat Names for a cat")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("Mia"))
        await find(pilot, app, "model qwen", "model qwen2.5")
        await pilot.press("enter")
        await until(pilot, lambda: app.session.conversation.chat.model.startswith("qwen2.5"))
        await find(pilot, app, "models of", "Models of the pool")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("Models: 4 models"))


async def test_what_one_goes_to_takes_the_place_of_what_is_shown(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("f4")
        await until(pilot, lambda: app.shows("by name"))
        for name, shown in (("studio", "RTX 4080"), ("macbook", "Apple M3")):
            await find(pilot, app, f"machine {name}", f"machine {name}")
            await pilot.press("enter")
            await until(pilot, lambda shown=shown: app.shows(shown))  # type: ignore[misc]
        await pilot.press("f12")
        await until(pilot, lambda: app.shows("Models: 4 models"))
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("by name"))
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is app.prompt)


async def test_leaving_a_machine_for_a_chat_ends_what_was_followed(app: StagedApp) -> None:
    app.scheduler.add_chat("c1", "Names for a cat", ("q", "Mia"), age_seconds=90_000)
    async with staged(app) as pilot:
        await until(pilot, lambda: bool(app.session.library.chats))
        await find(pilot, app, "machine studio", "machine studio")
        await pilot.press("enter")
        await until(pilot, lambda: app.scheduler.log_readers == 1)
        await find(pilot, app, "chat names", "chat Names for a cat")
        await pilot.press("enter")
        await until(pilot, lambda: app.scheduler.log_readers == 0)


async def test_a_theme_is_tried_and_where_to_keep_it_said(app: StagedApp) -> None:
    async with staged(app, (120, 40)) as pilot:
        await find(pilot, app, "theme ansi-light", "theme ansi-light")
        await pilot.press("enter")
        await until(pilot, lambda: app.theme == "ansi-light")
        await until(pilot, lambda: app.shows('theme = "ansi-light"'))


async def test_a_colon_opens_the_palette_but_in_a_text_it_is_a_colon(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("colon")
        await until(pilot, lambda: app.prompt.text == ":")
        await pilot.press("f4", "colon")
        await until(pilot, lambda: app.shows("Do or go to"))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.focused is app.prompt)


async def test_words_that_find_nothing_are_said_to(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("ctrl+l", *"qwxz")
        await until(pilot, lambda: app.shows("Nothing here has these words."))
        await pilot.press("backspace", "backspace", "backspace", "backspace")
        await until(pilot, lambda: not app.shows("Nothing here has these words."))


async def test_keys_typed_at_once_take_what_they_find(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("ctrl+l", *"models", "space", "o", "f", "enter")
        await until(pilot, lambda: app.shows("Models: 4 models"))


def test_ascii_keeps_the_width_of_every_text() -> None:
    assert as_ascii("plain") == "plain"
    assert as_ascii("╭─ Größe: 3 °C … “naïve” █▒░ ›") == '+- Grose: 3  C ~ "naive" #-. >'
    assert as_ascii("漢字 🌳") == "???? ??"
    assert as_ascii("e\u0301") == "e"
    assert as_ascii("שלום") == "????"
