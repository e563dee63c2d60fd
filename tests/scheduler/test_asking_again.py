from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fakes.worker import FakeWorker, deltas, describe
from potluck_proto.errors import BadRequest
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from scheduler.conftest import Pool

WORDS = [f"wörd{number} " for number in range(20)]


async def stopped_after(pool: Pool, worker: FakeWorker, count: int) -> pb.SubmitResponse:
    """Ask, and stop the answer once it has some words."""
    worker.script = deltas(WORDS)
    opened = asyncio.get_running_loop().create_future()
    worker.gate = lambda at: opened if at == count else None
    submitted = await pool.submit("Hello")
    async for event in pool.client.attach(submitted.generation_id):
        assert event is not None
        if event.HasField("delta") and WORDS[count - 1] in event.delta.text:
            break
    stop = pb.StopRequest(generation_id=submitted.generation_id)
    await pool.client.call(pool.client.stub.Stop, stop)
    worker.gate = lambda _: None
    worker.script = worker.script[count:]
    return submitted


async def test_a_stopped_answer_goes_on_as_the_same_answer_with_a_seam(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    submitted = await stopped_after(pool, worker, 5)
    request = pb.ContinueRequest(
        chat_id=submitted.chat_id, answer_message_id=submitted.answer_message_id
    )
    response = await pool.client.call(pool.client.stub.Continue, request)
    assert response.generation_id == submitted.generation_id
    text, end = await pool.answer(submitted.generation_id)
    assert text == "".join(WORDS)
    assert end.reason == types.END_REASON_END_OF_TURN
    continuation = worker.asked[1].continuation
    assert continuation.text == "".join(WORDS[:5])
    assert list(continuation.token_ids) == [0, 1, 2, 3, 4]
    (seam,) = (await pool.messages(submitted.chat_id))[1].seams
    assert (seam.text_offset, seam.from_node, seam.to_node) == (
        len("".join(WORDS[:5])), "fake", "fake",
    )  # fmt: skip
    await pool.restart()
    assert (await pool.answer(submitted.generation_id))[0] == "".join(WORDS)
    with pytest.raises(BadRequest, match="complete"):
        await pool.client.call(pool.client.stub.Continue, request)


async def test_the_limit_of_tokens_counts_anew_when_an_answer_goes_on(pool: Pool) -> None:
    worker = await pool.add(FakeWorker(script=deltas(WORDS[:3])))
    worker.end = types.End(reason=types.END_REASON_MAX_TOKENS)
    sampling = types.Sampling(max_tokens=3)
    submit = pb.SubmitRequest(content="Hello", model="echo", sampling=sampling)
    submitted = await pool.client.call(pool.client.stub.Submit, submit)
    await pool.answer(submitted.generation_id)
    worker.script = deltas(WORDS[:6])[3:]
    request = pb.ContinueRequest(
        chat_id=submitted.chat_id, answer_message_id=submitted.answer_message_id
    )
    for limit in (6, 9):
        await pool.client.call(pool.client.stub.Continue, request)
        await pool.answer(submitted.generation_id)
        assert worker.asked[-1].sampling.max_tokens == limit
        worker.script = deltas(WORDS[:9])[6:]


async def test_a_viewer_that_was_attached_sees_the_seam(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    submitted = await stopped_after(pool, worker, 5)
    request = pb.ContinueRequest(
        chat_id=submitted.chat_id, answer_message_id=submitted.answer_message_id
    )
    await pool.client.call(pool.client.stub.Continue, request)
    seen = []
    async for event in pool.client.attach(submitted.generation_id):
        assert event is not None
        if event.HasField("head"):
            seen += list(event.head.seams)
        if event.HasField("seam"):
            seen.append(event.seam)
    assert [seam.reason for seam in seen] == ["continued"]


async def test_a_question_is_answered_again_on_a_node_of_choice(pool: Pool) -> None:
    await pool.add(FakeWorker(node_id="one", name="one"))
    two = await pool.add(FakeWorker(node_id="two", name="two"))
    submitted = await pool.submit("Hello")
    await pool.answer(submitted.generation_id)
    request = pb.RegenerateRequest(
        chat_id=submitted.chat_id, message_id=submitted.answer_message_id, nodes=["two"]
    )
    again = await pool.client.call(pool.client.stub.Regenerate, request)
    await pool.answer(again.generation_id)
    assert [message.content for message in two.asked[-1].messages] == ["Hello"]
    _, answer = await pool.messages(submitted.chat_id)
    assert (answer.message_id, answer.node_name) == (again.answer_message_id, "two")


async def test_two_models_answer_side_by_side_and_one_can_be_stopped(pool: Pool) -> None:
    worker = await pool.add(FakeWorker(models=[describe("echo"), describe("other")]))
    opened = asyncio.Event()
    worker.gate = lambda _: opened.wait()
    submit = pb.SubmitRequest(content="Hello", model="echo", beside_model="other")
    submitted = await pool.client.call(pool.client.stub.Submit, submit)
    messages = await pool.messages(submitted.chat_id)
    assert [(m.role, m.shown) for m in messages] == [
        (types.ROLE_USER, True), (types.ROLE_ASSISTANT, True), (types.ROLE_ASSISTANT, False),
    ]  # fmt: skip
    assert messages[2].beside_message_id == messages[1].message_id
    with pytest.raises(BadRequest, match="under way"):
        await pool.submit("And?", chat_id=submitted.chat_id)
    stop = pb.StopRequest(generation_id=messages[2].generation_id)
    await pool.client.call(pool.client.stub.Stop, stop)
    opened.set()
    assert (await pool.answer(messages[1].generation_id))[0] == "one two three"
    assert (await pool.answer(messages[2].generation_id))[1].reason == types.END_REASON_STOPPED
    await pool.submit("And?", chat_id=submitted.chat_id)


async def test_another_branch_can_be_asked_while_an_answer_comes(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    first = await pool.submit("Hello")
    await pool.answer(first.generation_id)
    opened = asyncio.get_running_loop().create_future()
    worker.gate = lambda _: opened
    second = await pool.submit("And now?", chat_id=first.chat_id)
    edit = pb.SubmitRequest(content="Hello!", chat_id=first.chat_id, parent_message_id="")
    third = await pool.client.call(pool.client.stub.Submit, edit)
    assert [m.content for m in await pool.messages(first.chat_id)] == ["Hello!", ""]
    opened.set_result(None)
    for submitted in (second, third):
        assert (await pool.answer(submitted.generation_id))[0] == "one two three"


Change = Callable[[Pool, pb.SubmitResponse], Awaitable[object]]


async def select(pool: Pool, submitted: pb.SubmitResponse) -> None:
    request = pb.SelectBranchRequest(
        chat_id=submitted.chat_id, message_id=submitted.user_message_id
    )
    await pool.client.call(pool.client.stub.SelectBranch, request)


async def delete_and_restore(pool: Pool, submitted: pb.SubmitResponse) -> None:
    stub = pool.client.stub
    await pool.client.call(stub.DeleteChat, pb.DeleteChatRequest(chat_id=submitted.chat_id))
    await pool.client.call(stub.RestoreChat, pb.RestoreChatRequest(chat_id=submitted.chat_id))


@pytest.mark.parametrize("change", [select, delete_and_restore])
async def test_other_viewers_hear_of_a_change(pool: Pool, change: Change) -> None:
    await pool.add(FakeWorker())
    submitted = await pool.submit("Hello")
    await pool.answer(submitted.generation_id)
    watched = pool.client.watch_pool()
    before = await anext(watched)
    await change(pool, submitted)
    after = await anext(watched)
    assert before is not None
    assert after is not None
    assert after.chats_revision > before.chats_revision


async def test_how_long_a_model_thought_is_told_at_the_end(pool: Pool) -> None:
    worker = await pool.add(FakeWorker(script=deltas(["<think>", "hm", "</think>", "Hello"])))
    gate = asyncio.get_running_loop().create_future()
    worker.gate = lambda at: gate if at == 2 else None
    submitted = await pool.submit("Hello")
    async for event in pool.client.attach(submitted.generation_id):
        if event is not None and event.HasField("delta") and "hm" in event.delta.text:
            break
    gate.set_result(None)
    _, end = await pool.answer(submitted.generation_id)
    assert 0 < end.usage.thought_seconds < 60
    following = await pool.submit("And now?", chat_id=submitted.chat_id)
    await pool.answer(following.generation_id)
    assert [message.reasoning for message in worker.asked[-1].messages] == ["", "hm", ""]
