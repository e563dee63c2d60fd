from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from potluck_proto.errors import BadRequest, StoreError, UnknownChat
from potluck_proto.ids import ChatId, GenerationId, MessageId, NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.core.model import ModelKey
from potluck_scheduler.core.speeds import Speed
from potluck_scheduler.migrations import m001_chats_and_messages, m002_full_text_search, migrate
from potluck_scheduler.speed_store import SpeedStore
from scheduler.chats import ENDED, STOPPED, Chats, opened


def said(messages: tuple[types.Message, ...]) -> list[str]:
    return [message.content for message in messages]


async def test_what_was_submitted_is_there_after_a_kill(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.sqlite3") as chats, opened(tmp_path / "c.sqlite3") as again:
        request = pb.SubmitRequest(content="Hello\nthere", model="m")
        submission = await chats.store.submit(request)
        await chats.save(submission, "so far", [1, 2], lineage="x")
        response = await again.shelf.chat(pb.GetChatRequest(chat_id=submission.chat_id))
        user, answer = response.messages
        assert (response.chat.title, response.chat.model) == ("Hello", "m")
        assert (user.content, answer.content) == ("Hello\nthere", "so far")
        assert not answer.HasField("end")
        (left,) = await again.store.unfinished()
        assert (left.generation_id, left.conversation) == (
            submission.generation_id,
            submission.conversation,
        )
        assert (left.text, left.token_ids, left.lineage) == ("so far", (1, 2), "x")
        assert left.asked == submission.asked
        assert left.asked.sampling.seed, "what comes is drawn as it would have been"
        await again.save(submission, "so far", end=ENDED)
        assert await again.store.unfinished() == []


async def test_the_file_is_for_this_user_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.sqlite3"):
        assert (tmp_path / "c.sqlite3").stat().st_mode & 0o777 == 0o600


async def test_an_old_database_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    with sqlite3.connect(path, isolation_level=None) as old:
        migrate(old, (m001_chats_and_messages, m002_full_text_search))
        old.execute("INSERT INTO chats VALUES ('c', 'Old', 'm', '', 1, 1, 0, 0)")
        for name, parent, role, generation in [
            ("u", "", types.ROLE_USER, None),
            ("a", "u", types.ROLE_ASSISTANT, "g"),
            ("u2", "a", types.ROLE_USER, None),
        ]:
            old.execute(
                "INSERT INTO messages (message_id, chat_id, parent_message_id, role, content,"
                " created, generation_id) VALUES (?, 'c', ?, ?, ?, 1, ?)",
                (name, parent, role, f"an ancient {name}", generation),
            )
        old.execute("UPDATE messages SET \"end\" = x'' WHERE message_id = 'a'")
    old.close()
    async with opened(path) as chats:
        assert await chats.found("ancient") == [
            "an [ancient] u2",
            "an [ancient] a",
            "an [ancient] u",
        ]
        assert await chats.titles() == ["Old"]
        assert await chats.shown("c") == ["an ancient u", "an ancient a", "an ancient u2"]
        await chats.store.select(ChatId("c"), MessageId("a"))
        await chats.shelf.delete(ChatId("c"))
        assert await chats.shelf.purge(kept_seconds=-1) == 1


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    with sqlite3.connect(path, isolation_level=None) as newer:
        migrate(newer)
        newer.execute("INSERT INTO migrations VALUES ('m999_from_the_future', 1)")
    newer.close()
    with pytest.raises(StoreError, match="m999_from_the_future"):
        async with opened(path):
            pass


def damaged_in(folder: Path) -> list[bytes]:
    """Return the files that were kept aside."""
    return [path.read_bytes() for path in folder.iterdir() if "damaged" in path.name]


@pytest.mark.parametrize("content", [b"this is no database at all" * 50, b"SQLite format 3\0" * 99])
async def test_a_damaged_database_is_kept_aside_and_said_and_a_new_one_begun(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "c.sqlite3"
    path.write_bytes(content)
    async with opened(path) as chats:
        assert damaged_in(tmp_path) == [content]
        assert f"{path}.damaged-" in chats.database.problem
        await chats.ask("something")
        assert await chats.titles() == ["something"]


async def test_a_database_with_a_damaged_page_is_kept_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    async with opened(path) as chats:
        for number in range(50):
            await chats.ask(f"{number} " + "words " * 500)
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 12 * 4096] = b"\xff" * (4 * 4096)
    path.write_bytes(content)
    async with opened(path) as again:
        assert "damaged" in again.database.problem
        assert await again.titles() == []


async def test_a_full_disk_is_said_until_there_is_room_and_nothing_is_half_stored(
    chats: Chats,
) -> None:
    first = await chats.ask("before")
    pages = await chats.database.run(lambda: chats.database.value("PRAGMA page_count"))
    await chats.database.run(
        lambda: chats.database.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    )
    with pytest.raises(StoreError, match=r"full.*Make room"):
        await chats.store.submit(pb.SubmitRequest(content="x" * 100_000, chat_id=first.chat_id))
    assert "full" in chats.database.problem
    assert await chats.shown(first.chat_id) == ["before", "yes"]
    assert "full" in chats.database.problem, "that it can be read does not mean that all is well"
    await chats.database.run(
        lambda: chats.database.execute("PRAGMA max_page_count = 1000000").fetchall()
    )
    await chats.ask("after", chat_id=first.chat_id)
    assert chats.database.problem == ""
    assert await chats.shown(first.chat_id) == ["before", "yes", "after", "yes"]


async def test_speeds_are_kept_and_those_learned_last_come_last(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    fast, slow = (Speed().measured(1, seconds) for seconds in (0.01, 0.5))
    pairs = [(NodeId(name), ModelKey("m", "Q8_0")) for name in "ab"]
    async with opened(path) as chats:
        speeds = SpeedStore(chats.database)
        await speeds.save({pairs[0]: slow, pairs[1]: slow})
        await speeds.save({pairs[0]: fast})
        await speeds.save({})
    async with opened(path) as again:
        loaded = await SpeedStore(again.database).load()
        assert list(loaded.items()) == [(pairs[1], slow), (pairs[0], fast)]


async def test_a_locked_file_is_said_and_works_again_when_it_is_free(
    chats: Chats, tmp_path: Path
) -> None:
    await chats.database.run(lambda: chats.database.execute("PRAGMA busy_timeout = 10").fetchall())
    other = sqlite3.connect(tmp_path / "chats.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked.*Another program holds it"):
        await chats.ask("a")
    assert await chats.titles() == []
    other.execute("ROLLBACK")
    other.close()
    await chats.ask("a")
    assert await chats.titles() == ["a"]


async def test_a_branch_sees_its_own_past_alone(chats: Chats) -> None:
    first = await chats.ask("1", "one", system_prompt="Be brief.")
    await chats.ask("2", "two", chat_id=first.chat_id)
    branch = await chats.ask("2b", chat_id=first.chat_id, parent_message_id=first.answer_message_id)
    assert said(branch.conversation) == ["Be brief.", "1", "one", "2b"]
    start = await chats.ask("1b", chat_id=first.chat_id, parent_message_id="")
    assert said(start.conversation) == ["Be brief.", "1b"]
    with pytest.raises(BadRequest, match="follows an answer"):
        await chats.ask("x", chat_id=first.chat_id, parent_message_id=first.user_message_id)
    with pytest.raises(BadRequest, match="no message"):
        await chats.ask("x", chat_id=first.chat_id, parent_message_id="elsewhere")


async def test_the_branch_that_is_shown_is_remembered_with_all_its_turns(chats: Chats) -> None:
    first = await chats.ask("1", "one")
    second = await chats.ask("2", "two", chat_id=first.chat_id)
    await chats.ask("3", "three", chat_id=first.chat_id)
    await chats.ask("2b", "two b", chat_id=first.chat_id, parent_message_id=first.answer_message_id)
    assert await chats.shown(first.chat_id) == ["1", "one", "2b", "two b"]
    await chats.store.select(first.chat_id, second.user_message_id)
    assert await chats.shown(first.chat_id) == ["1", "one", "2", "two", "3", "three"]
    with pytest.raises(BadRequest):
        await chats.store.select(first.chat_id, MessageId("elsewhere"))
    with pytest.raises(UnknownChat):
        await chats.store.select(ChatId("elsewhere"), second.user_message_id)


async def test_a_question_is_answered_again_by_whichever_model(chats: Chats) -> None:
    first = await chats.ask("1", "one", model="m", preset=pb.Preset(name="p", thinking=False))
    await chats.ask("2", "two", chat_id=first.chat_id)
    request = pb.RegenerateRequest(
        chat_id=first.chat_id, message_id=first.answer_message_id, model="n", nodes=["attic"]
    )
    again = await chats.store.regenerate(request)
    assert (again.model, list(again.asked.nodes), again.asked.thinking) == ("n", ["attic"], False)
    assert said(again.conversation) == ["1"]
    assert await chats.shown(first.chat_id) == ["1", ""]
    response = await chats.shelf.chat(pb.GetChatRequest(chat_id=first.chat_id))
    assert list(response.messages[1].sibling_ids) == [
        first.answer_message_id,
        again.answer_message_id,
    ]
    assert response.chat.model == "m"


async def test_an_answer_can_stand_beside_another_and_either_can_be_gone_on_from(
    chats: Chats,
) -> None:
    first = await chats.ask("1", "one")
    beside = await chats.store.regenerate(
        pb.RegenerateRequest(
            chat_id=first.chat_id, message_id=first.answer_message_id, model="n", beside=True
        )
    )
    await chats.save(beside, "uno", end=ENDED)
    response = await chats.shelf.chat(pb.GetChatRequest(chat_id=first.chat_id))
    assert [(m.content, m.shown) for m in response.messages] == [
        ("1", True), ("one", True), ("uno", False),
    ]  # fmt: skip
    assert response.messages[2].beside_message_id == first.answer_message_id
    await chats.store.select(first.chat_id, beside.answer_message_id)
    following = await chats.ask("2", chat_id=first.chat_id)
    assert said(following.conversation) == ["1", "uno", "2"]
    with pytest.raises(BadRequest, match="this is a question"):
        await chats.store.regenerate(
            pb.RegenerateRequest(
                chat_id=first.chat_id, message_id=first.user_message_id, beside=True
            )
        )


async def test_a_chat_with_a_second_model_asks_both(chats: Chats) -> None:
    request = pb.SubmitRequest(content="1", model="m", beside_model="n")
    submission = await chats.store.submit(request)
    assert submission.beside is not None
    assert (submission.model, submission.beside.model) == ("m", "n")
    assert submission.beside.conversation == submission.conversation


async def test_a_cut_answer_goes_on_from_its_text_and_tokens(chats: Chats) -> None:
    sampling = types.Sampling(seed=7)
    submission = await chats.store.submit(pb.SubmitRequest(content="1", sampling=sampling))
    # The last character was cut in two, so its mark goes.
    await chats.save(
        submission, "one tw\ufffd", [5, 6], lineage="x", model="m", node_name="attic", end=STOPPED
    )
    assert await chats.found("one") == ["[one] tw\ufffd"]
    again = await chats.store.reopen(submission.chat_id, submission.answer_message_id)
    assert again.generation_id == submission.generation_id
    assert (again.text, again.token_ids, again.node_name) == ("one tw", (5, 6), "attic")
    assert (again.lineage, again.continued_tokens) == ("x", 2)
    assert (again.asked.sampling.seed, again.model) == (7, "m")
    assert said(again.conversation) == ["1"]
    assert await chats.found("one") == []
    await chats.save(again, "one two", [5, 6, 7], end=ENDED)
    assert await chats.found("two") == ["one [two]"]
    with pytest.raises(BadRequest, match="it is complete"):
        await chats.store.reopen(submission.chat_id, submission.answer_message_id)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (types.END_REASON_END_OF_TURN, "it is complete"),
        (types.END_REASON_STOP_STRING, "it is complete"),
        (types.END_REASON_CONTEXT_FULL, "context is full"),
    ],
)
async def test_an_answer_that_cannot_go_on_says_why(
    chats: Chats, reason: types.EndReason.ValueType, words: str
) -> None:
    submission = await chats.ask("1", end=types.End(reason=reason))
    with pytest.raises(BadRequest, match=words):
        await chats.store.reopen(submission.chat_id, submission.answer_message_id)


async def test_an_answer_that_is_followed_or_under_way_does_not_go_on(chats: Chats) -> None:
    first = await chats.ask("1", end=STOPPED)
    with pytest.raises(BadRequest, match="this is a question"):
        await chats.store.reopen(first.chat_id, first.user_message_id)
    second = await chats.store.submit(pb.SubmitRequest(content="2", chat_id=first.chat_id))
    with pytest.raises(BadRequest, match="other messages follow it"):
        await chats.store.reopen(first.chat_id, first.answer_message_id)
    with pytest.raises(BadRequest, match="under way"):
        await chats.store.reopen(first.chat_id, second.answer_message_id)
    with pytest.raises(BadRequest, match="under way"):
        await chats.store.submit(
            pb.SubmitRequest(content="3", chat_id=first.chat_id), {second.generation_id}
        )


async def test_a_question_that_got_no_word_is_left_out_of_the_conversation(chats: Chats) -> None:
    first = await chats.ask("1", "")
    second = await chats.ask("2", chat_id=first.chat_id)
    assert said(second.conversation) == ["2"]


async def test_thoughts_are_kept_apart_from_what_was_said(chats: Chats) -> None:
    first = await chats.ask("1", "<think>hm</think>one")
    second = await chats.ask("2", chat_id=first.chat_id)
    assert [(m.content, m.reasoning) for m in second.conversation] == [
        ("1", ""), ("one", "hm"), ("2", ""),
    ]  # fmt: skip


async def test_files_are_read_before_the_question_whatever_is_in_them(chats: Chats) -> None:
    files = [
        pb.Attachment(name="a.txt", content="one\n"),
        pb.Attachment(name="b.md", content="```\ntwo\n```"),
    ]
    submission = await chats.ask("What is this?", attachments=files)
    assert said(submission.conversation) == [
        "File: a.txt\n```\none\n```\n\nFile: b.md\n````\n```\ntwo\n```\n````\n\nWhat is this?"
    ]
    response = await chats.shelf.chat(pb.GetChatRequest(chat_id=submission.chat_id))
    assert list(response.messages[0].attachments) == files
    assert response.messages[0].content == "What is this?"


async def test_a_preset_of_the_chat_makes_its_answers_unless_another_is_asked_for(
    chats: Chats,
) -> None:
    preset = pb.Preset(sampling=types.Sampling(temperature=0.5), thinking=True)
    first = await chats.ask("1", preset=preset)
    assert (first.asked.sampling.temperature, first.asked.thinking) == (0.5, True)
    other = await chats.ask("2", chat_id=first.chat_id, sampling=types.Sampling(seed=1))
    assert not other.asked.sampling.HasField("temperature")


async def test_a_failed_submission_leaves_nothing(chats: Chats) -> None:
    with pytest.raises(BadRequest):
        await chats.ask("x", parent_message_id="elsewhere")
    assert await chats.shelf.count() == 0


async def test_the_same_request_is_stored_once(chats: Chats) -> None:
    first = await chats.ask("1", request_id="r")
    again = await chats.store.submit(pb.SubmitRequest(content="1", request_id="r"))
    assert again.repeated
    assert (again.generation_id, again.revision) == (first.generation_id, first.revision)


async def test_a_deleted_chat_takes_its_messages_along_when_it_is_purged(chats: Chats) -> None:
    submission = await chats.ask("something")
    await chats.shelf.delete(submission.chat_id)
    assert await chats.shelf.purge() == 0
    assert await chats.answers.answer(submission.generation_id) is not None
    assert await chats.shelf.purge(kept_seconds=-1) == 1
    assert await chats.answers.answer(GenerationId(submission.generation_id)) is None
    with pytest.raises(UnknownChat):
        await chats.shelf.restore(submission.chat_id)
