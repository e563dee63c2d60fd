from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from potluck_proto.errors import BadRequest, StoreError
from potluck_proto.ids import ChatId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.migrations import m001_chats_and_messages, migrate
from potluck_scheduler.store import ChatStore

ENDED = types.End(reason=types.END_REASON_END_OF_TURN)


async def opened(path: Path) -> ChatStore:
    store = ChatStore(path)
    await store.open()
    return store


async def test_what_was_submitted_is_there_after_a_kill(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    submission = await store.submit(pb.SubmitRequest(content="Hello\nthere", model="m"))
    await store.save_text(submission.generation_id, "so far", [1, 2])
    again = await opened(tmp_path / "c.sqlite3")
    chat, (user, answer) = await again.get_chat(submission.chat_id)
    assert (chat.title, chat.model) == ("Hello", "m")
    assert (user.content, answer.content) == ("Hello\nthere", "so far")
    assert not answer.HasField("end")
    assert await again.end_interrupted(ENDED) == 1
    assert await again.end_interrupted(ENDED) == 0
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
async def test_a_damaged_database_is_said_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.sqlite3"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=str(path)):
        await opened(path)
    assert path.read_bytes() == content


async def test_a_branch_sees_its_own_past_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path / "c.sqlite3")
    first = await store.submit(pb.SubmitRequest(content="1", system_prompt="Be brief."))
    await store.save_text(first.generation_id, "one", [], ENDED)
    second = await store.submit(pb.SubmitRequest(content="2", chat_id=first.chat_id))
    await store.save_text(second.generation_id, "two", [], ENDED)
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
    await store.save_text(first.generation_id, "", [], ENDED)
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
