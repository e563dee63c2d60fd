from __future__ import annotations

import json
from pathlib import Path

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.library import PAGE_CHATS
from potluck_tui.widgets.chat_list import ChatList
from tui.real_stage import ask, real_stage
from tui.stage import LARGE, type_at_once, until

FILLER = "\n\n".join(f"Paragraph {number}." for number in range(60))


async def test_a_search_shows_its_hits_where_they_stand(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await app.chat(("Bread?", f"Flour.\n\n{FILLER}\n\nLittle yeast."), ("And?", FILLER))
        await app.chat(("Wine?", "Yeast eats sugar."))
        await app.chat(("Cats?", "Mia."))
        await pilot.press("ctrl+f", *"yea")
        await until(pilot, lambda: app.shows("2 hits"))
        assert app.shows("Yeast eats sugar.")
        # The cursor stays on its hit while more is typed.
        await pilot.press("down", "s")
        await until(pilot, lambda: app.session.library.query == "yeas" and app.shows("2 hits"))
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("▌ Little yeast.") and app.shows("hit 2 of 2: n, N"))
        assert not app.shows("Flour.")
        await pilot.press("n")
        await until(pilot, lambda: app.shows("▌ Yeast eats sugar.") and app.shows("hit 1 of 2"))
        await pilot.press("N")
        await until(pilot, lambda: app.shows("▌ Little yeast.") and app.shows("hit 2 of 2"))
        await pilot.press("escape")
        await until(pilot, lambda: not app.shows("hit 2 of 2"))


async def test_a_hit_in_thoughts_unfolds_them(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await app.chat(("Name?", "<think>Something with quicksilver.</think>Mia."))
        await pilot.press("ctrl+f", *"quicksilver", "enter")
        await until(pilot, lambda: app.shows("▌ Something with quicksilver."))


async def test_enter_before_the_hits_are_there_shows_the_first_of_them(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await app.chat(("Wine?", "Yeast eats sugar."))
        await app.chat(("Cats?", "Mia."))
        # As a slow link delivers them: all at once.
        for key in ("ctrl+f", *"sugar", "enter"):
            app.simulate_key(key)
        await until(pilot, lambda: app.shows("▌ Yeast eats sugar."))
        assert app.prompt.text == ""


async def test_chats_are_pinned_archived_deleted_and_taken_back_in_the_list(
    short_tmp: Path,
) -> None:
    async with real_stage(short_tmp, size=LARGE) as (app, pilot):
        for title in ("One", "Two", "Three"):
            await app.chat((title, "Yes."))
        library = app.session.library

        def titles() -> list[str]:
            return [chat.title for chat in library.chats]

        await until(pilot, lambda: titles() == ["Three", "Two", "One"])
        await pilot.press("ctrl+o", "home", "down", "down", "p")
        await until(pilot, lambda: titles() == ["One", "Three", "Two"])
        await pilot.press("down", "a")
        await until(pilot, lambda: len(titles()) == 2)
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("Archived  tab: deleted") and len(titles()) == 1)
        assert app.shows("1 archived")
        await pilot.press("home", "a")
        await until(pilot, lambda: app.shows("Archived: none  tab: deleted"))
        await pilot.press("tab", "tab")
        await until(pilot, lambda: len(titles()) == 3)
        await pilot.press("home", "d")
        await until(pilot, lambda: len(titles()) == 2)
        await until(pilot, lambda: app.shows("“One” is deleted. f9 brings it back"))
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("Archived: none"))
        await pilot.press("tab")
        await until(pilot, lambda: titles() == ["One"])
        # Also behind an empty shelf there is a chat under the cursor.
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("This chat is deleted: u takes it back."))
        await pilot.press("u", "tab")
        await until(pilot, lambda: sorted(titles()) == ["One", "Three", "Two"])


async def test_a_long_list_is_read_as_far_as_somebody_goes(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        for number in range(PAGE_CHATS + 30):
            await app.daemon.store.submit(pb.SubmitRequest(content=f"Chat {number}"))
        await app.chat(("Last", "Yes."))
        library = app.session.library
        await until(pilot, lambda: library.has_more and len(library.chats) == PAGE_CHATS)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: app.shows("Last"))
        await pilot.press("end")
        await until(pilot, lambda: len(library.chats) == PAGE_CHATS + 31)
        await pilot.press("end")
        await until(pilot, lambda: app.shows("Chat 0"))


async def test_what_was_asked_in_other_chats_can_be_asked_again(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await app.chat(("An old question", "Yes."))
        await pilot.pause()
        await pilot.press("ctrl+n")
        app.session.prompts = ("An old question",)
        await pilot.press("n", "e", "w", "up")
        await until(pilot, lambda: app.prompt.text == "An old question")
        await pilot.press("down")
        await until(pilot, lambda: app.prompt.text == "new")


async def test_a_chat_is_written_to_a_file_that_is_named(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await app.chat(("Name?", "**Mia.**"), title="A cat's name")
        await until(pilot, lambda: len(app.session.library.chats) == 1)
        await pilot.press("ctrl+o", "home", "enter")
        await until(pilot, lambda: app.shows("Mia."))
        await pilot.press("tab", "x")
        await until(pilot, lambda: app.shows("The chat is written to"))
    (file,) = (short_tmp / "exports").iterdir()
    assert file.name.startswith("A-cat-s-name-")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "## You\n\nName?\n\n## echo\n\n**Mia.**\n" in file.read_text()


async def test_the_palette_writes_the_chat_with_all_branches_as_json(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Name?", "Mia.")
        app.will_say("Tom.")
        await pilot.press("tab", "r")
        await until(pilot, lambda: app.shows("▌ Tom.") and not app.session.conversation.busy)
        await pilot.press("ctrl+l", *"json", "enter")
        await until(pilot, lambda: app.shows("The chat is written to"))
    (file,) = (short_tmp / "exports").iterdir()
    contents = [message["content"] for message in json.loads(file.read_text())["messages"]]
    assert contents == ["Name?", "Mia.", "Tom."]


async def test_the_cursor_of_the_list_goes_to_a_chat_that_is_begun(short_tmp: Path) -> None:
    async with real_stage(short_tmp, size=LARGE) as (app, pilot):
        await ask(pilot, app, "Cats?", "Mia.")
        await pilot.press("ctrl+n")
        await ask(pilot, app, "Dogs?", "Rex.")
        chats = app.screen.query_one(ChatList)
        await until(pilot, lambda: chats.chat_under_cursor == app.session.conversation.chat_id)


async def test_a_title_is_typed_over_the_old_one_in_one_go(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await ask(pilot, app, "Which cats are there?", "Mia.")
        type_at_once(app, "ctrl+r", "ctrl+u", "ctrl+u", *"Dogs", "ctrl+u", *"Cats", "enter")
        await until(pilot, lambda: app.session.conversation.chat.title == "Cats")
