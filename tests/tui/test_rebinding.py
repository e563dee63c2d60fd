from __future__ import annotations

from pathlib import Path

import pytest

from potluck_tui.keys import PLACES
from potluck_tui.preferences import Preferences, Read
from potluck_tui.rebinding import rebound
from tui import samples
from tui.stage import StagedApp, make_stage, staged, until

REFUSED = [
    ({"chat.newer": "f12"}, "No key has the id 'chat.newer'; did you mean 'chat.new'?"),
    ({"chat.nu": "f12"}, "No key has the id 'chat.nu'; did you mean 'chat.new'?"),
    ({"zoom": "f12"}, "No key has the id 'zoom'; F1 shows them where the terminal is wide."),
    ({"chat.new": "ctrl-e"}, "chat.new cannot be 'ctrl-e': write ctrl+e."),
    ({"chat.new": "hyper+e"}, "chat.new cannot be 'hyper+e': there is no key 'hyper+e'."),
    ({"chat.new": ""}, "there is no key ''."),
    ({"chat.new": "ctrl+m"}, "terminals send enter for ctrl+m."),
    (
        {"chat.new": "ctrl+f"},
        "does something else in the place 'chat', chat.search (Search all chats).",
    ),
    ({"nodes.sort": "x"}, "orders.remove (Remove the machine from the pool)."),
]


def with_keys(folder: Path, **keys: str) -> StagedApp:
    wanted = {name.replace("__", "."): key for name, key in keys.items()}
    app = make_stage(folder, preferences=Read(Preferences(keys=wanted)))
    app.scheduler.pool = samples.house()
    return app


@pytest.mark.parametrize(("wanted", "sentence"), REFUSED, ids=[str(w) for w, _ in REFUSED])
def test_a_wish_that_cannot_be_is_said_in_a_sentence(wanted: dict[str, str], sentence: str) -> None:
    keymap, problems = rebound(wanted | {"chat.copy": "f11"})
    assert keymap == {"chat.copy": "f11"}
    (problem,) = problems
    assert problem.endswith(sentence)


def test_a_conflict_names_both_keys() -> None:
    _, (problem,) = rebound({"nodes.sort": "x"})
    assert problem.startswith("nodes.sort keeps o: x does something else in the place 'machines'")


def test_two_keys_can_change_places() -> None:
    wanted = {"chat.new": "ctrl+f", "chat.search": "ctrl+n", "nodes.sort": "question_mark, +"}
    keymap, problems = rebound(wanted | {"nodes.help": "o"})
    assert not problems
    assert keymap["nodes.sort"] == "question_mark,+"


def test_every_key_has_an_id_of_its_own_and_is_in_some_place() -> None:
    keys = {id(key): key for tables in PLACES.values() for table in tables for key in table}
    assert len({key.id for key in keys.values()}) == len(keys)


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"chat", "messages", "list of chats"}))
def test_no_key_does_two_things_in_one_place(place: str) -> None:
    keys = [key for table in PLACES[place] for each in table for key in each.keys.split(",")]
    assert sorted(set(keys)) == sorted(keys)


async def test_another_key_acts_shows_and_leaves_the_old_one_free(short_tmp: Path) -> None:
    app = with_keys(short_tmp, chat__nodes="f11", nodes__sort="s", nodes__details="e")
    async with staged(app, (90, 24)) as pilot:
        await until(pilot, lambda: app.shows("f11 pool"))
        await pilot.press("f4", "f11")
        await until(pilot, lambda: app.shows("by name"))
        assert app.shows("s sort")
        await pilot.press("o", "s")
        await until(pilot, lambda: app.shows("by state"))
        await pilot.press("f1")
        await until(pilot, lambda: app.shows("Sort by the next figure"))
        assert any(row.split()[1:3] == ["s", "Sort"] for row in app.rows())
        await pilot.press("escape", "e")
        await until(pilot, lambda: app.shows("Last decisions"))


async def test_other_keys_count_in_the_prompt_too(short_tmp: Path) -> None:
    app = with_keys(short_tmp, prompt__send="ctrl+e", prompt__newline="enter", chat__new="f11")
    async with staged(app) as pilot:
        await pilot.press("a", "enter", "b", "ctrl+e")
        await until(pilot, lambda: len(app.scheduler.submitted) == 1)
        assert app.scheduler.submitted[0].content == "a\nb"


async def test_a_chosen_key_counts_before_what_a_field_of_text_does_with_it(
    short_tmp: Path,
) -> None:
    app = with_keys(short_tmp, chat__new="ctrl+e", chat__nodes="ctrl+k", options__close="ctrl+u")
    app.scheduler.add_chat("c1", "First", ("q", "answer one"), age_seconds=10)
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("answer one"))
        await pilot.press("ctrl+e")
        await until(pilot, lambda: not app.shows("answer one"))
        await pilot.press("ctrl+k")
        await until(pilot, lambda: app.shows("Machines:"))
        await pilot.press("escape", "ctrl+s")
        await until(pilot, lambda: app.shows("How this chat is answered"))
        await pilot.press("tab", "x", "ctrl+u")
        await until(pilot, lambda: not app.shows("How this chat is answered"))


async def test_sentences_name_the_keys_that_were_chosen(short_tmp: Path) -> None:
    app = with_keys(short_tmp, chat__model="f11", chat__restore="ctrl+y")
    app.scheduler.add_chat("c1", "One", ("q", "answer one"), age_seconds=10)
    async with staged(app) as pilot:
        await until(pilot, lambda: app.shows("answer one"))
        await pilot.press("f8")
        await until(pilot, lambda: app.shows("is deleted. ctrl+y brings it back"))
        await until(pilot, lambda: app.shows("f11 picks another model"))


async def test_what_is_wrong_is_said_at_the_start(short_tmp: Path) -> None:
    wanted = Preferences(keys={"chat.new": "ctrl+f"}, theme="purple")
    app = make_stage(short_tmp, preferences=Read(wanted, ("settings.toml is odd.",)))
    async with staged(app, (120, 40)) as pilot:
        await until(pilot, lambda: app.shows("settings.toml is odd."))
        await until(pilot, lambda: app.shows("chat.new keeps ctrl+n"))
        await until(pilot, lambda: app.shows("There is no theme 'purple'"))
        await pilot.press("ctrl+n")
