from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from fakes.worker import GIB, FakeWorker, deltas, describe
from potluck_proto.errors import (
    BadRequest,
    LimitReached,
    OffsetNotReached,
    UnknownChat,
    UnknownGeneration,
    UnknownNode,
)
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from scheduler.conftest import Pool

WORDS = [f"wörd{number} " for number in range(40)]
ANSWER = "".join(WORDS)


Gate = Callable[[int], Awaitable[object] | None]


def stop_at(number: int) -> tuple[asyncio.Future[None], Gate]:
    """Return a future, and a gate that waits for it before a delta."""
    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return opened, lambda at: opened if at == number else None


async def test_an_answer_comes_through_and_is_stored_with_its_reason(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    submitted = await pool.submit("Hello")
    text, end = await pool.answer(submitted.generation_id)
    assert text == "one two three"
    assert end.reason == types.END_REASON_END_OF_TURN
    assert end.usage.completion_tokens == 3
    assert end.usage.time_to_first_token_seconds > 0
    user, answer = await pool.messages(submitted.chat_id)
    assert (user.content, answer.content) == ("Hello", text)
    assert answer.node_name == "fake"
    assert answer.explanation.step == types.PLACEMENT_STEP_COLD_FITS
    assert answer.explanation.summary == "loaded now, takes 1.0 of 8.0 GiB free"
    assert [message.content for message in worker.asked[0].messages] == ["Hello"]


async def test_the_next_turn_carries_the_conversation(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    first = await pool.submit("Hello")
    await pool.answer(first.generation_id)
    second = await pool.submit("And now?", chat_id=first.chat_id)
    await pool.answer(second.generation_id)
    said = [(message.role, message.content) for message in worker.asked[1].messages]
    assert said == [
        (types.ROLE_USER, "Hello"),
        (types.ROLE_ASSISTANT, "one two three"),
        (types.ROLE_USER, "And now?"),
    ]


@pytest.mark.parametrize("seed", range(5))
async def test_viewers_that_come_and_go_miss_nothing_and_see_nothing_twice(
    pool: Pool, seed: int
) -> None:
    chance = random.Random(seed)
    worker = await pool.add(FakeWorker(script=deltas(WORDS)))
    gates = [asyncio.get_running_loop().create_future() for _ in WORDS]
    worker.gate = lambda number: gates[number]
    submitted = await pool.submit("Hello")
    shown = ""
    for number, gate in enumerate(gates):
        gate.set_result(None)
        if chance.random() < 0.7 and number < len(gates) - 1:
            continue
        want = sum(map(len, WORDS[: number + 1]))
        async for event in pool.client.attach(submitted.generation_id, len(shown)):
            assert event is not None
            if event.HasField("delta"):
                assert event.delta.text_offset == len(shown)
                shown += event.delta.text
            if len(shown) >= want:
                break
    assert shown == ANSWER
    assert (await pool.answer(submitted.generation_id))[0] == ANSWER


async def test_two_viewers_see_the_same_answer(pool: Pool) -> None:
    worker = await pool.add(FakeWorker(script=deltas(WORDS)))
    opened, gate = stop_at(20)
    worker.gate = gate
    submitted = await pool.submit("Hello")
    viewers = [asyncio.create_task(pool.answer(submitted.generation_id)) for _ in range(2)]
    await pool.until(lambda _: pool.daemon._service.viewers >= 3)
    opened.set_result(None)
    assert {(await viewer)[0] for viewer in viewers} == {ANSWER}


async def test_an_answer_can_be_read_from_any_offset_also_from_disk(pool: Pool) -> None:
    await pool.add(FakeWorker(script=deltas(WORDS)))
    submitted = await pool.submit("Hello")
    await pool.answer(submitted.generation_id)
    await pool.restart()
    for offset in (0, 1, len(ANSWER) // 2, len(ANSWER)):
        assert (await pool.answer(submitted.generation_id, offset))[0] == ANSWER[offset:]
    with pytest.raises(OffsetNotReached, match=f"{len(ANSWER)} characters"):
        await pool.answer(submitted.generation_id, len(ANSWER) + 1)
    with pytest.raises(UnknownGeneration):
        await pool.answer("nonsense")


async def test_stop_ends_an_answer_and_keeps_what_it_has(pool: Pool) -> None:
    worker = await pool.add(FakeWorker(script=deltas(WORDS)))
    _, worker.gate = stop_at(5)
    submitted = await pool.submit("Hello")
    want = "".join(WORDS[:5])
    async for event in pool.client.attach(submitted.generation_id):
        assert event is not None
        if event.HasField("delta") and event.delta.text_offset + len(event.delta.text) == len(want):
            break
    stop = pb.StopRequest(generation_id=submitted.generation_id)
    await pool.client.call(pool.client.stub.Stop, stop)
    text, end = await pool.answer(submitted.generation_id)
    assert (text, end.reason) == (want, types.END_REASON_STOPPED)
    assert end.usage.tokens_per_second > 0
    assert (await pool.messages(submitted.chat_id))[-1].content == want
    await pool.client.call(pool.client.stub.Stop, stop)
    assert worker.cancelled == 1


async def test_a_worker_that_falls_silent_is_lost(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    worker.silent = True
    await pool.until(lambda nodes: nodes[0].health == pb.NODE_HEALTH_SUSPECT)
    await pool.until(lambda nodes: nodes[0].health == pb.NODE_HEALTH_LOST)
    worker.silent = False
    await pool.until(lambda nodes: nodes[0].health == pb.NODE_HEALTH_READY)


async def test_what_a_worker_says_twice_is_shown_once(pool: Pool) -> None:
    script = deltas(WORDS)
    doubled = [
        script[0],
        *(delta for pair in pairwise(script) for delta in pair),
    ]
    await pool.add(FakeWorker(script=[*doubled, script[-1]]))
    submitted = await pool.submit("Hello")
    assert (await pool.answer(submitted.generation_id))[0] == ANSWER


async def test_the_same_request_twice_is_one_answer(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    request = pb.SubmitRequest(content="Hello", model="echo", request_id="same")
    first = await pool.client.call(pool.client.stub.Submit, request)
    second = await pool.client.call(pool.client.stub.Submit, request)
    assert first == second
    await pool.answer(first.generation_id)
    assert len(worker.asked) == 1


async def test_without_a_worker_the_prompt_is_kept_and_the_answer_says_what_to_do(
    pool: Pool,
) -> None:
    submitted = await pool.submit("Hello")
    _, end = await pool.answer(submitted.generation_id)
    assert end.error.code == types.ERROR_CODE_NO_NODES
    assert "potluck up" in end.error.message
    assert (await pool.messages(submitted.chat_id))[0].content == "Hello"


async def test_of_two_workers_the_warm_one_answers_and_both_are_explained(pool: Pool) -> None:
    await pool.add(FakeWorker(node_id="a", name="cold"))
    warm = FakeWorker(node_id="b", name="warm")
    warm.loaded = [types.LoadedModel(name="echo", slots=4, state=types.MODEL_STATE_READY)]
    await pool.add(warm)
    submitted = await pool.submit("Hello")
    await pool.answer(submitted.generation_id)
    assert len(warm.asked) == 1
    explanation = (await pool.messages(submitted.chat_id))[-1].explanation
    assert explanation.step == types.PLACEMENT_STEP_WARM
    verdicts = {candidate.node_name: candidate.verdict for candidate in explanation.candidates}
    assert verdicts == {"warm": types.VERDICT_CHOSEN, "cold": types.VERDICT_POSSIBLE}


async def test_a_model_too_big_for_all_is_refused_with_the_numbers_of_each(pool: Pool) -> None:
    for name, free in (("a", 1), ("b", 2)):
        big = [describe("big", "Q4_K_M", 5 * GIB)]
        await pool.add(FakeWorker(node_id=name, name=name, models=big, free_bytes=free * GIB))
    submitted = await pool.submit("Hello", model="big")
    _, end = await pool.answer(submitted.generation_id)
    assert end.error.code == types.ERROR_CODE_NOT_ENOUGH_MEMORY
    for part in ("big:Q4_K_M needs 5.0 GiB", "a has 1.0 of 8.0", "b has 2.0 of 8.0"):
        assert part in end.error.message


async def test_a_worker_elsewhere_is_not_spoken_to_before_it_is_paired(pool: Pool) -> None:
    request = pb.AddNodeRequest(address="192.0.2.1:7421")
    node = (await pool.client.call(pool.client.stub.AddNode, request)).node
    assert node.health == pb.NODE_HEALTH_REFUSED
    assert "potluck invite" in node.problem.message


async def test_a_worker_of_another_version_is_refused_in_words(pool: Pool) -> None:
    worker = FakeWorker(protocol_version=99)
    pool.workers.append(worker)
    address = await worker.serve(pool.home.root / "w.sock")
    await pool.client.call(pool.client.stub.AddNode, pb.AddNodeRequest(address=address))
    await pool.until(lambda nodes: nodes[0].health == pb.NODE_HEALTH_REFUSED)
    response = await pool.client.call(pool.client.stub.ListNodes, pb.ListNodesRequest())
    assert "version 99" in response.nodes[0].problem.message


async def test_prompts_that_cannot_be_are_refused_in_words(pool: Pool) -> None:
    await pool.add(FakeWorker())
    with pytest.raises(BadRequest, match="empty"):
        await pool.submit("  \n")
    with pytest.raises(LimitReached, match="1,048,577 bytes"):
        await pool.submit("x" * (2**20 + 1))
    with pytest.raises(UnknownChat):
        await pool.submit("Hello", chat_id="nonsense")
    with pytest.raises(UnknownNode, match="nowhere"):
        request = pb.RemoveNodeRequest(node="nowhere")
        await pool.client.call(pool.client.stub.RemoveNode, request)


async def test_the_machine_of_the_scheduler_itself_is_not_removed(pool: Pool) -> None:
    worker = FakeWorker("a", "attic")
    pool.workers.append(worker)
    address = await worker.serve(pool.home.worker_socket)
    await pool.until(lambda nodes: pool.health(nodes, address) == pb.NODE_HEALTH_READY)
    with pytest.raises(BadRequest, match="the pool's own machine"):
        await pool.client.call(pool.client.stub.RemoveNode, pb.RemoveNodeRequest(node="attic"))
    await pool.until(lambda nodes: pool.health(nodes, address) == pb.NODE_HEALTH_READY)


async def test_a_second_prompt_waits_for_the_first_answer_of_its_chat(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    opened, worker.gate = stop_at(1)
    first = await pool.submit("Hello")
    with pytest.raises(BadRequest, match="under way"):
        await pool.submit("And?", chat_id=first.chat_id)
    opened.set_result(None)
    await pool.answer(first.generation_id)
    await pool.submit("And?", chat_id=first.chat_id)


async def test_chats_are_listed_changed_searched_and_deleted(pool: Pool) -> None:
    await pool.add(FakeWorker())
    stub, call = pool.client.stub, pool.client.call
    ids = []
    for content in ("First words", "Second thoughts\nand more"):
        submitted = await pool.submit(content)
        await pool.answer(submitted.generation_id)
        ids.append(submitted.chat_id)
    chats = (await call(stub.ListChats, pb.ListChatsRequest())).chats
    assert [chat.title for chat in chats] == ["Second thoughts", "First words"]
    page = await call(stub.ListChats, pb.ListChatsRequest(limit=1))
    rest = await call(stub.ListChats, pb.ListChatsRequest(limit=1, page_token=page.next_page_token))
    assert [chat.chat_id for chat in (*page.chats, *rest.chats)] == ids[::-1]
    await call(stub.UpdateChat, pb.UpdateChatRequest(chat_id=ids[0], title="New", pinned=True))
    assert (await call(stub.ListChats, pb.ListChatsRequest())).chats[0].title == "New"
    hits = (await call(stub.SearchChats, pb.SearchChatsRequest(query="thoughts"))).hits
    assert [hit.chat_id for hit in hits] == [ids[1]]
    assert len((await call(stub.SearchChats, pb.SearchChatsRequest(query="three two"))).hits) == 2
    await call(stub.DeleteChat, pb.DeleteChatRequest(chat_id=ids[1]))
    assert not (await call(stub.SearchChats, pb.SearchChatsRequest(query="thoughts"))).hits
    with pytest.raises(UnknownChat):
        await call(stub.GetChat, pb.GetChatRequest(chat_id=ids[1]))


async def test_a_model_is_loaded_unloaded_and_a_node_drained_by_hand(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    stub, call = pool.client.stub, pool.client.call
    loaded = await call(stub.LoadModel, pb.LoadModelRequest(model="echo", node="fake"))
    assert loaded.explanation.node_name == "fake"
    assert worker.loaded
    await call(stub.UnloadModel, pb.UnloadModelRequest(model="echo", node="fake"))
    assert not worker.loaded
    await call(stub.DrainNode, pb.DrainNodeRequest(node="fake", draining=True))
    await pool.until(lambda nodes: nodes[0].state.draining)
    explained = await call(stub.Explain, pb.ExplainRequest(model="echo"))
    assert "drained" in explained.explanation.summary
