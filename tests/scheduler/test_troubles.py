from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fakes.worker import Context, FakeWorker, deltas
from potluck_proto.errors import NodeLost
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker_pb
from scheduler.conftest import Pool
from scheduler.test_moves import ANSWER, WARM, WORDS, followed, never


class Meddler(FakeWorker):
    """Speaks of jobs that nobody gave it."""

    async def Work(
        self, request_iterator: AsyncIterator[worker_pb.WorkRequest], context: Context
    ) -> AsyncIterator[worker_pb.WorkResponse]:
        foreign = worker_pb.GenerateResponse(delta=types.Delta(text="foreign", token_ids=[9]))
        end = worker_pb.GenerateResponse(end=types.End(reason=types.END_REASON_MAX_TOKENS))
        async for response in super().Work(request_iterator, context):
            meddled = [worker_pb.JobEvent(number=77, response=each) for each in (foreign, end)]
            yield worker_pb.WorkResponse(events=[*meddled, *response.events, *meddled])


async def test_words_on_a_request_of_nobody_are_dropped(pool: Pool) -> None:
    await pool.add(Meddler(script=deltas(WORDS)))
    submitted = await pool.submit("Hello")
    assert (await followed(pool, submitted.generation_id))[0] == ANSWER


async def test_what_comes_twice_or_late_is_dropped(pool: Pool) -> None:
    script = deltas(WORDS)
    await pool.add(
        FakeWorker(script=[*script[:5], script[4], *script[2:9], script[0], *script[9:]])
    )
    submitted = await pool.submit("Hello")
    text, seams, end = await followed(pool, submitted.generation_id)
    assert (text, seams, end.reason) == (ANSWER, [], types.END_REASON_END_OF_TURN)


class Thinker(FakeWorker):
    """Says nothing of its models for ever, and of itself from then on."""

    async def Inspect(
        self, request: worker_pb.InspectRequest, context: Context
    ) -> worker_pb.InspectResponse:
        self.silent = True
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def test_a_call_to_a_worker_that_is_lost_meanwhile_says_which_was_lost(pool: Pool) -> None:
    await pool.add(Thinker())
    with pytest.raises(NodeLost, match="The connection to fake broke"):
        await pool.client.call(
            pool.client.stub.DescribeModel, pb.DescribeModelRequest(model="echo")
        )


async def test_a_worker_that_does_not_answer_a_call_in_time_is_named(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_scheduler.library_service.DESCRIBE_SECONDS", 0.1)
    await pool.add(Thinker())
    with pytest.raises(NodeLost, match="fake did not answer in time"):
        await pool.client.call(
            pool.client.stub.DescribeModel, pb.DescribeModelRequest(model="echo")
        )


async def problem(pool: Pool, *, there: bool) -> str:
    """Wait until the scheduler has a problem, or none; return it."""
    async for seen in pool.client.watch_pool():
        if seen is not None and bool(seen.problem) == there:
            return seen.problem
    raise AssertionError("the scheduler is gone")


async def test_a_full_disk_costs_the_record_and_not_the_answer(pool: Pool) -> None:
    long = [word * 500 for word in WORDS]
    worker = await pool.add(FakeWorker(script=deltas(long)))
    worker.gate = never(3)
    submitted = await pool.submit("Hello")
    await pool.until_text(submitted.generation_id, "".join(long[:3]))
    database = pool.daemon.database
    pages = await database.run(lambda: database.value("PRAGMA page_count"))
    await database.run(lambda: database.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    worker.gate(3).set_result(None)  # type: ignore[union-attr]
    text, _, end = await followed(pool, submitted.generation_id)
    assert (text, end.reason) == ("".join(long), types.END_REASON_END_OF_TURN)
    assert "full" in end.not_stored.message
    assert "full" in await problem(pool, there=True)
    await database.run(lambda: database.execute("PRAGMA max_page_count = 1000000").fetchall())
    await problem(pool, there=False)
    await pool.restart()
    assert (await pool.messages(submitted.chat_id))[1].content == "".join(long)


async def cut_and_continued(pool: Pool, first: FakeWorker) -> pb.SubmitResponse:
    """Start an answer that was cut after ten of its words, goes on, and stops after twenty."""
    first.script, first.end = deltas(WORDS[:10]), types.End(reason=types.END_REASON_MAX_TOKENS)
    submitted = await pool.submit("Hello", sampling=types.Sampling(max_tokens=10))
    await pool.answer(submitted.generation_id)
    first.script, first.gate = deltas(WORDS), never(20)
    go_on = pb.ContinueRequest(
        chat_id=submitted.chat_id, answer_message_id=submitted.answer_message_id
    )
    await pool.client.call(pool.client.stub.Continue, go_on)
    await pool.until_text(submitted.generation_id, "".join(WORDS[:20]))
    return submitted


async def test_a_cut_answer_that_goes_on_moves_as_any_other(pool: Pool) -> None:
    first = await pool.add(FakeWorker(node_id="a", name="first"))
    submitted = await cut_and_continued(pool, first)
    second = FakeWorker(node_id="b", name="second", script=deltas(WORDS), loaded=[WARM])
    await pool.add(second)
    await first.die()
    text, seams, _ = await followed(pool, submitted.generation_id)
    assert text == ANSWER
    assert [seam.reason for seam in seams] == ["continued", "first was lost"]
    assert list(second.asked[0].continuation.token_ids) == list(range(20))
    assert [request.sampling.max_tokens for request in (*first.asked, *second.asked)] == [
        10,
        20,
        20,
    ]


async def test_a_cut_answer_that_goes_on_keeps_its_limit_over_a_restart(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    submitted = await cut_and_continued(pool, worker)
    worker.gate = lambda _: None
    await pool.restart()
    text, seams, _ = await followed(pool, submitted.generation_id)
    assert text == ANSWER
    assert [seam.reason for seam in seams] == ["continued", "the scheduler was restarted"]
    assert [request.sampling.max_tokens for request in worker.asked] == [10, 20, 20]


async def test_two_answers_side_by_side_move_each_for_itself(pool: Pool) -> None:
    first = FakeWorker(node_id="a", name="first", script=deltas(WORDS))
    first.gate = never(10)
    await pool.add(first)
    submitted = await pool.submit("Hello", beside_model="echo")
    beside = (await pool.messages(submitted.chat_id))[2]
    both = (submitted.generation_id, beside.generation_id)
    for generation_id in both:
        await pool.until_text(generation_id, "".join(WORDS[:10]))
    await pool.add(FakeWorker(node_id="b", name="second", script=deltas(WORDS), loaded=[WARM]))
    await first.die()
    for text, (seam,), _ in await asyncio.gather(*(followed(pool, each) for each in both)):
        assert (text, seam.to_node) == (ANSWER, "second")
