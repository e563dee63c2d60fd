from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potluck_proto.errors import BadRequest, UnknownChat
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler import search, shelf
from potluck_scheduler.shelf import PAGE_BYTES
from scheduler.chats import ENDED, Chats


async def test_pages_of_a_list_hold_each_chat_once_whatever_comes_meanwhile(chats: Chats) -> None:
    for number in range(7):
        await chats.ask(f"chat {number}")
    pinned = await chats.ask("pinned")
    for number in range(7, 10):
        await chats.ask(f"chat {number}")
    await chats.shelf.update(pb.UpdateChatRequest(chat_id=pinned.chat_id, pinned=True))
    titles, token = [], ""
    while True:
        page, token = await chats.shelf.chats(pb.ListChatsRequest(limit=3, page_token=token))
        titles += [chat.title for chat in page]
        await chats.ask("a newcomer")
        if not token:
            break
    assert titles == ["pinned", *(f"chat {number}" for number in range(9, -1, -1))]


@pytest.mark.parametrize("token", ["x", "1:2", "1:x:c", "'; DROP TABLE chats"])
async def test_a_token_of_another_making_is_refused(chats: Chats, token: str) -> None:
    with pytest.raises(BadRequest):
        await chats.shelf.chats(pb.ListChatsRequest(page_token=token))


async def test_chats_stand_on_one_shelf_and_come_back(chats: Chats) -> None:
    one, two, three = [await chats.ask(title) for title in ("one", "two", "three")]
    await chats.shelf.update(pb.UpdateChatRequest(chat_id=one.chat_id, archived=True))
    await chats.shelf.delete(two.chat_id)
    assert await chats.titles() == ["three"]
    assert await chats.titles(shelf=pb.SHELF_ARCHIVED) == ["one"]
    assert await chats.titles(shelf=pb.SHELF_DELETED) == ["two"]
    assert await chats.shelf.count() == 2
    for work in (
        chats.ask("more", chat_id=two.chat_id),
        chats.shelf.chat(pb.GetChatRequest(chat_id=two.chat_id)),
        chats.shelf.delete(two.chat_id),
        chats.shelf.update(pb.UpdateChatRequest(chat_id=two.chat_id, title="x")),
    ):
        with pytest.raises(UnknownChat):
            await work
    await chats.shelf.restore(two.chat_id)
    await chats.shelf.update(pb.UpdateChatRequest(chat_id=one.chat_id, archived=False))
    assert await chats.titles() == ["three", "two", "one"]
    assert await chats.shown(two.chat_id) == ["two", "yes"]
    assert three.revision > 0


async def test_a_list_is_narrowed_by_title_or_the_beginning_of_an_id(chats: Chats) -> None:
    one = await chats.ask("100% sure")
    await chats.ask("1000 things")
    assert await chats.titles(query="100%") == ["100% sure"]
    assert await chats.titles(query="THING") == ["1000 things"]
    assert await chats.titles(query=one.chat_id[:9]) == ["100% sure"]
    assert await chats.titles(query=one.chat_id[3:]) == []


async def test_a_chat_that_is_known_is_not_sent_again(chats: Chats) -> None:
    first = await chats.ask("1")
    request = pb.GetChatRequest(chat_id=first.chat_id, known_revision=first.revision)
    response = await chats.shelf.chat(request)
    assert response.unchanged
    assert not response.messages
    await chats.shelf.update(pb.UpdateChatRequest(chat_id=first.chat_id, title="x"))
    response = await chats.shelf.chat(request)
    assert (response.unchanged, response.chat.title, len(response.messages)) == (False, "x", 2)


async def test_a_chat_larger_than_a_message_of_grpc_comes_in_pages(chats: Chats) -> None:
    first = await chats.ask("0", "x" * (PAGE_BYTES // 3))
    for number in range(1, 9):
        await chats.ask(str(number), "x" * (PAGE_BYTES // 3), chat_id=first.chat_id)
    pages: list[str] = []
    before = ""
    while True:
        request = pb.GetChatRequest(chat_id=first.chat_id, before_message_id=before)
        response = await chats.shelf.chat(request)
        assert response.ByteSize() < PAGE_BYTES * 2
        pages = [message.content[:1] for message in response.messages] + pages
        if not response.has_earlier:
            break
        before = response.messages[0].message_id
    assert pages[::2] == [str(number) for number in range(9)]
    with pytest.raises(BadRequest):
        await chats.shelf.chat(
            pb.GetChatRequest(chat_id=first.chat_id, before_message_id="elsewhere")
        )


async def test_a_message_larger_than_a_page_comes_alone(chats: Chats) -> None:
    first = await chats.ask("0", "x" * (PAGE_BYTES + 1))
    response = await chats.shelf.chat(pb.GetChatRequest(chat_id=first.chat_id))
    assert [len(message.content) for message in response.messages] == [PAGE_BYTES + 1]
    assert response.has_earlier


async def test_all_branches_come_when_asked_for(chats: Chats) -> None:
    first = await chats.ask("1", "one")
    await chats.ask("1b", "one b", chat_id=first.chat_id, parent_message_id="")
    request = pb.GetChatRequest(chat_id=first.chat_id, all_branches=True)
    response = await chats.shelf.chat(request)
    assert [(m.content, m.shown) for m in response.messages] == [
        ("1", False), ("one", False), ("1b", True), ("one b", True),
    ]  # fmt: skip


async def test_a_search_finds_titles_and_messages_of_all_chats_newest_first(chats: Chats) -> None:
    old = await chats.ask("Bread with little yeast", "Take a gram of Yeast and wait.")
    new = await chats.ask("Wine", "Yeast eats the sugar.")
    gone = await chats.ask("Yeast elsewhere")
    await chats.shelf.delete(gone.chat_id)
    await chats.shelf.update(pb.UpdateChatRequest(chat_id=old.chat_id, archived=True))
    await chats.shelf.update(pb.UpdateChatRequest(chat_id=new.chat_id, title="A little wine"))
    assert await chats.found("little") == ["A little wine", "Bread with [little] yeast"]
    assert await chats.found("yeast") == [
        "[Yeast] eats the sugar.",
        "Take a gram of [Yeast] and wait.",
        "Bread with little [yeast]",
    ]
    assert await chats.found("gram ye") == ["Take a [gram] of [Yeast] and wait."]
    hits = await chats.shelf.search("sugar", 5)
    assert [(hit.chat_id, hit.chat_title, hit.role) for hit in hits] == [
        (new.chat_id, "A little wine", types.ROLE_ASSISTANT)
    ]


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        ("crème", True),
        ("CREME", True),
        ("brû", True),
        ("brulee creme", True),
        ('"crème brûlée"', True),
        ('"brûlée crème"', False),
        ("eme", False),
        ("b", False),
        ("creme nothing", False),
        ("  ", False),
        ("creme -", True),
    ],
)
async def test_what_a_query_means(chats: Chats, query: str, finds: bool) -> None:
    await chats.ask("x", "A crème brûlée for two.")
    assert bool(await chats.found(query)) == finds


@given(st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_search_takes_whatever_is_typed(query: str) -> None:
    words = search.terms(query)
    if words:
        assert search.match_expression(words).count('"') % 2 == 0


@pytest.mark.parametrize("query", ['"', "a AND", "NEAR(", "*", "x:y", "-", "'; DROP TABLE chats"])
async def test_a_search_takes_the_signs_of_the_database(chats: Chats, query: str) -> None:
    await chats.ask("something")
    await chats.shelf.search(query, 5)


async def test_an_answer_under_way_is_found_once_it_ended(chats: Chats) -> None:
    submission = await chats.store.submit(pb.SubmitRequest(content="x"))
    await chats.save(submission, "quicksilver")
    assert await chats.found("quicksilver") == []
    await chats.save(submission, "quicksilver", end=ENDED)
    assert await chats.found("quicksilver") == ["[quicksilver]"]


async def test_prompts_of_all_chats_come_newest_first_and_each_once(chats: Chats) -> None:
    for content in ("one", "two", "one", "x" * (shelf.PROMPT_CHARACTERS + 1)):
        await chats.ask(content)
    gone = await chats.ask("secret")
    await chats.shelf.delete(gone.chat_id)
    assert await chats.shelf.prompts(10) == ["one", "two"]
    assert await chats.shelf.prompts(1) == ["one"]


async def test_presets_are_kept_by_name(chats: Chats) -> None:
    precise = pb.Preset(name="precise", sampling=types.Sampling(temperature=0.1))
    await chats.shelf.save_preset(pb.Preset(name="wild", sampling=types.Sampling(temperature=2)))
    await chats.shelf.save_preset(pb.Preset(name="precise"))
    await chats.shelf.save_preset(precise)
    presets = await chats.shelf.presets()
    assert [preset.name for preset in presets] == ["precise", "wild"]
    assert presets[0] == precise
    await chats.shelf.delete_preset("wild")
    await chats.shelf.delete_preset("never was")
    assert len(await chats.shelf.presets()) == 1
    for name in ("", "  ", "x" * 41, "a\nb"):
        with pytest.raises(BadRequest, match="1 to 40 characters"):
            await chats.shelf.save_preset(pb.Preset(name=name))


async def test_a_chat_keeps_its_options(chats: Chats) -> None:
    first = await chats.ask("1")
    preset = pb.Preset(name="wild", sampling=types.Sampling(temperature=2))
    await chats.shelf.update(
        pb.UpdateChatRequest(
            chat_id=first.chat_id, preset=preset, system_prompt="Be brief.", beside_model="n"
        )
    )
    chat = (await chats.shelf.chat(pb.GetChatRequest(chat_id=first.chat_id))).chat
    assert (chat.preset, chat.system_prompt, chat.beside_model) == (preset, "Be brief.", "n")
