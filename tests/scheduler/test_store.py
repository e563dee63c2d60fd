from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from potluck_proto.errors import BadRequest, StoreError
from potluck_proto.ids import ChatId, NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.answer_store import AnswerStore, Record, Submission
from potluck_scheduler.chat_store import ChatStore
from potluck_scheduler.core.model import ModelKey
from potluck_scheduler.core.speeds import Speed
from potluck_scheduler.database import Database
from potluck_scheduler.migrations import m001_chats_and_messages, migrate
from potluck_scheduler.speed_store import SpeedStore

ENDED = types.End(reason=types.END_REASON_END_OF_TURN)


class Store(ChatStore, AnswerStore):
    """Chats and answers of one file."""

    def __init__(self, path: Path) -> None:
        super().__init__(Database(path))

    @property
    def database(self) -> Database:
        return self._database

    async def close(self) -> None:
        await self._database.close()

    async def save_text(
        self, submission: Submission, text: str, end: types.End | None = None
    ) -> None:
        await self.save([Record(submission.generation_id, "m", "", text, [1, 2], "x", end=end)])


def damaged_in(folder: Path) -> list[bytes]:
    """Return the files that were kept aside."""
    return [path.read_bytes() for path in folder.iterdir() if "damaged" in path.name]


async def opened(path: Path) -> Store:
    store = Store(path)
    await store.database.open()
    return store


async def test_what_was_submitted_is_there_after_a_kill(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    submission = await store.submit(pb.SubmitRequest(content="Hello\nthere", model="m"))
    await store.save_text(submission, "so far")
    again = await opened(tmp_path / "c.sqlite3")
    chat, (user, answer) = await again.get_chat(submission.chat_id)
    assert (chat.title, chat.model) == ("Hello", "m")
    assert (user.content, answer.content) == ("Hello\nthere", "so far")
    assert not answer.HasField("end")
    (unfinished,) = await again.unfinished()
    assert unfinished.submission == submission
    assert unfinished.request == pb.SubmitRequest(model="m")
    assert unfinished.record.text == "so far"
    assert list(unfinished.record.token_ids) == [1, 2]
    assert unfinished.record.lineage == "x"
    await again.save_text(submission, "so far", ENDED)
    assert await again.unfinished() == []
    await again.close()
    await store.close()


async def test_the_file_is_for_this_user_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    assert (tmp_path / "c.sqlite3").stat().st_mode & 0o777 == 0o600
    await store.close()


async def test_an_old_database_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    with sqlite3.connect(path, isolation_level=None) as old:
        migrate(old, (m001_chats_and_messages,))
        old.execute("INSERT INTO chats VALUES ('c', 'Old', 'm', '', 1, 1, 0, 0)")
        old.execute(
            "INSERT INTO messages (message_id, chat_id, parent_message_id, role, content, created)"
            " VALUES ('u', 'c', '', 2, 'an ancient question', 1)"
        )
    old.close()
    store = await opened(path)
    assert [hit.chat_title for hit in await store.search("ancient", 5)] == ["Old"]
    chats, _ = await store.list_chats(10, "", False)
    assert [chat.title for chat in chats] == ["Old"]
    await store.close()


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    with sqlite3.connect(path, isolation_level=None) as newer:
        migrate(newer)
        newer.execute("INSERT INTO migrations VALUES ('m999_from_the_future', 1)")
    newer.close()
    with pytest.raises(StoreError, match="m999_from_the_future"):
        await opened(path)


@pytest.mark.parametrize("content", [b"this is no database at all" * 50, b"SQLite format 3\0" * 99])
async def test_a_damaged_database_is_kept_aside_and_said_and_a_new_one_begun(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "c.sqlite3"
    path.write_bytes(content)
    store = await opened(path)
    assert damaged_in(tmp_path) == [content]
    assert f"{path}.damaged-" in store.database.problem
    await store.submit(pb.SubmitRequest(content="something"))
    assert await store.count_chats() == 1
    await store.close()


async def test_a_database_with_a_damaged_page_is_kept_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    store = await opened(path)
    for number in range(50):
        await store.submit(pb.SubmitRequest(content=f"{number} " + "words " * 500))
    await store.close()
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 12 * 4096] = b"\xff" * (4 * 4096)
    path.write_bytes(content)
    again = await opened(path)
    assert "damaged" in again.database.problem
    assert await again.count_chats() == 0
    await again.close()


async def test_a_full_disk_damages_nothing_and_is_well_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    first = await store.submit(pb.SubmitRequest(content="kept"))
    pages = store.database.rows("PRAGMA page_count")[0][0]
    store.database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="full"):
        await store.submit(pb.SubmitRequest(content="x" * 100_000))
    assert "full" in store.database.problem
    assert await store.count_chats() == 1
    assert "full" in store.database.problem, "that it can be read does not mean that all is well"
    store.database.execute("PRAGMA max_page_count = 1000000")
    await store.save_text(first, "an answer", ENDED)
    assert store.database.problem == ""
    assert (await store.get_chat(first.chat_id))[1][1].content == "an answer"
    await store.close()


async def test_speeds_are_kept_and_those_learned_last_come_last(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    store = await opened(path)
    speeds = SpeedStore(store.database)
    fast, slow = (Speed().measured(1, seconds) for seconds in (0.01, 0.5))
    pairs = [(NodeId(name), ModelKey("m", "Q8_0")) for name in "ab"]
    await speeds.save({pairs[0]: slow, pairs[1]: slow})
    await speeds.save({pairs[0]: fast})
    await speeds.save({})
    await store.close()
    again = await opened(path)
    loaded = await SpeedStore(again.database).load()
    assert list(loaded.items()) == [(pairs[1], slow), (pairs[0], fast)]
    await again.close()


async def test_a_branch_sees_its_own_past_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    first = await store.submit(pb.SubmitRequest(content="1", system_prompt="Be brief."))
    await store.save_text(first, "one", ENDED)
    second = await store.submit(pb.SubmitRequest(content="2", chat_id=first.chat_id))
    await store.save_text(second, "two", ENDED)
    branch = await store.submit(
        pb.SubmitRequest(
            content="2b", chat_id=first.chat_id, parent_message_id=first.answer_message_id
        )
    )
    assert [message.content for message in branch.conversation] == ["Be brief.", "1", "one", "2b"]
    with pytest.raises(BadRequest, match="follows an answer"):
        await store.submit(
            pb.SubmitRequest(
                content="x", chat_id=first.chat_id, parent_message_id=first.user_message_id
            )
        )
    with pytest.raises(BadRequest, match="not in this chat"):
        await store.submit(
            pb.SubmitRequest(content="x", chat_id=first.chat_id, parent_message_id="elsewhere")
        )
    await store.close()


async def test_a_question_that_got_no_word_is_left_out_of_the_conversation(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    first = await store.submit(pb.SubmitRequest(content="1"))
    await store.save_text(first, "", ENDED)
    second = await store.submit(pb.SubmitRequest(content="2", chat_id=first.chat_id))
    assert [message.content for message in second.conversation] == ["2"]
    await store.close()


@pytest.mark.parametrize("query", ['"', "a AND", "NEAR(", "*", "x:y", "-", "'; DROP TABLE chats"])
async def test_a_search_takes_whatever_is_typed(tmp_path: Path, query: str) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    await store.submit(pb.SubmitRequest(content="something"))
    await store.search(query, 5)
    await store.close()


async def test_a_failed_submission_leaves_nothing(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    with pytest.raises(BadRequest):
        await store.submit(pb.SubmitRequest(content="x", parent_message_id="elsewhere"))
    assert await store.count_chats() == 0
    await store.close()


async def test_a_deleted_chat_takes_its_messages_along(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    submission = await store.submit(pb.SubmitRequest(content="something"))
    await store.delete_chat(ChatId(submission.chat_id))
    assert await store.answer(submission.generation_id) is None
    assert await store.search("something", 5) == []
    await store.close()
