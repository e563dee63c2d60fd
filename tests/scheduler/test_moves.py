from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fakes.worker import FOREIGN_TOKENS, FakeWorker, deltas, describe
from potluck_proto.errors import (
    BadRequest,
    Displaced,
    EngineDied,
    NotEnoughMemory,
    PotluckError,
    TemplateError,
)
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from scheduler.conftest import Pool, start

WORDS = [f"wörd{number} " for number in range(40)]
ANSWER = "".join(WORDS)

WARM = types.LoadedModel(name="echo", slots=4, state=types.MODEL_STATE_READY)

Gate = Callable[[int], Awaitable[None] | None]


def never(number: int) -> Gate:
    """Return a gate that does not open before a delta."""
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return lambda at: closed if at == number else None


def failed(error: PotluckError) -> types.End:
    return types.End(reason=types.END_REASON_FAILED, error=error.to_proto())


async def two_workers(pool: Pool, **facts: object) -> tuple[FakeWorker, FakeWorker, str]:
    """Start an answer that stops after ten words at the first of two workers; the id comes last."""
    first = FakeWorker(node_id="a", name="first", script=deltas(WORDS), **facts)  # type: ignore[arg-type]
    first.gate = never(10)
    await pool.add(first)
    submitted = await pool.submit("Hello")
    second = FakeWorker(node_id="b", name="second", script=deltas(WORDS))
    await pool.add(second)
    await pool.until_text(submitted.generation_id, "".join(WORDS[:10]))
    return first, second, submitted.generation_id


async def followed(pool: Pool, generation_id: str) -> tuple[str, list[pb.Seam], types.End]:
    """Follow an answer to its end; return its text, its seams, and its end."""
    text, seams = "", []
    async for event in pool.client.attach(generation_id):
        assert event is not None
        match event.WhichOneof("event"):
            case "head":
                seams = list(event.head.seams)
            case "delta":
                assert event.delta.text_offset == len(text)
                text += event.delta.text
            case "seam":
                assert event.seam.text_offset == len(text)
                seams.append(event.seam)
            case "end":
                return text, seams, event.end
    raise AssertionError("no end")


async def test_an_answer_whose_worker_dies_goes_on_at_another_without_a_word_lost(
    pool: Pool,
) -> None:
    first, second, generation_id = await two_workers(pool)
    following = asyncio.create_task(followed(pool, generation_id))
    await pool.until(lambda _: pool.daemon._service.viewers >= 2)
    await first.die()
    text, (seam,), end = await following
    assert text == ANSWER
    assert end.reason == types.END_REASON_END_OF_TURN
    assert (seam.from_node, seam.to_node, seam.reason) == ("first", "second", "first was lost")
    assert seam.text_offset == len("".join(WORDS[:10]))
    assert seam.exact
    (asked,) = second.asked
    assert list(asked.continuation.token_ids) == list(range(10))
    assert asked.continuation.text == "".join(WORDS[:10])
    assert asked.sampling.seed == first.asked[0].sampling.seed
    assert (await followed(pool, generation_id))[:2] == (text, [seam])


async def test_a_seam_is_stored_with_the_answer_and_the_place_where_it_ended(pool: Pool) -> None:
    first, _, generation_id = await two_workers(pool)
    await first.die()
    _, seams, _ = await followed(pool, generation_id)
    await pool.restart()
    assert (await followed(pool, generation_id))[1] == seams
    chats = await pool.client.call(pool.client.stub.ListChats, pb.ListChatsRequest())
    answer = (await pool.messages(chats.chats[0].chat_id))[-1]
    assert list(answer.seams) == seams
    assert answer.node_name == "second"


async def test_a_worker_that_falls_silent_loses_its_answers_to_another(pool: Pool) -> None:
    first, _, generation_id = await two_workers(pool)
    first.silent = True
    text, (seam,), end = await followed(pool, generation_id)
    assert (text, end.reason) == (ANSWER, types.END_REASON_END_OF_TURN)
    assert seam.reason == "first was lost"
    assert first.cancelled == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineDied("The engine was killed."), "its engine on first died"),
        (NotEnoughMemory("Another program took it."), "first gave it up"),
        (Displaced("echo was unloaded."), "first gave it up"),
    ],
)
async def test_an_answer_whose_engine_fails_goes_on_elsewhere(
    pool: Pool, error: PotluckError, reason: str
) -> None:
    first = FakeWorker(node_id="a", name="first", script=deltas(WORDS[:10]), end=failed(error))
    await pool.add(first)
    first.gate = never(3)
    submitted = await pool.submit("Hello")
    await pool.add(FakeWorker(node_id="b", name="second", script=deltas(WORDS), loaded=[WARM]))
    await pool.until_text(submitted.generation_id, "".join(WORDS[:3]))
    first.gate(3).set_result(None)  # type: ignore[union-attr]
    text, (seam,), end = await followed(pool, submitted.generation_id)
    assert (text, end.reason) == (ANSWER, types.END_REASON_END_OF_TURN)
    assert seam.reason == reason


@pytest.mark.parametrize("error", [BadRequest("No."), TemplateError("It refuses prefill.")])
async def test_what_would_fail_anywhere_does_not_move(
    pool: Pool, error: BadRequest | TemplateError
) -> None:
    await pool.add(FakeWorker(node_id="a", script=deltas(WORDS[:3]), end=failed(error)))
    second = await pool.add(FakeWorker(node_id="b"))
    pool.workers[0].loaded = [WARM]
    await pool.until(lambda nodes: any(node.state.loaded for node in nodes))
    submitted = await pool.submit("Hello")
    text, seams, end = await followed(pool, submitted.generation_id)
    assert text == "".join(WORDS[:3])
    assert (end.error.code, end.error.message) == (error.code, error.message)
    assert not seams
    assert not second.asked


async def test_an_answer_without_a_move_ends_where_its_worker_dies(pool: Pool) -> None:
    first = FakeWorker(node_id="a", name="first", script=deltas(WORDS))
    first.gate = never(5)
    await pool.add(first)
    submitted = await pool.submit("Hello", no_move=True)
    await pool.add(FakeWorker(node_id="b", name="second", script=deltas(WORDS)))
    await pool.until_text(submitted.generation_id, "".join(WORDS[:5]))
    await first.die()
    text, seams, end = await followed(pool, submitted.generation_id)
    assert text == "".join(WORDS[:5])
    assert end.error.code == types.ERROR_CODE_NODE_LOST
    assert "first" in end.error.message
    assert not seams


async def test_the_settings_can_turn_moves_off(pool: Pool) -> None:
    await pool.daemon.stop()
    pool.daemon = await start(pool.home, move=False)
    first, _, generation_id = await two_workers(pool)
    await first.die()
    _, _, end = await followed(pool, generation_id)
    assert end.error.code == types.ERROR_CODE_NODE_LOST


@pytest.mark.parametrize("what", ["tokenizer_sha256", "template_sha256", "weights_sha256"])
async def test_with_another_tokenizer_template_or_weights_the_text_goes_on_and_is_marked_so(
    pool: Pool, what: str
) -> None:
    def echo(value: str) -> types.ModelDescription:
        model = describe("echo")
        setattr(model, what, value)
        return model

    first = FakeWorker(node_id="a", name="first", script=deltas(WORDS))
    first.models = [echo("x")]
    first.gate = never(10)
    await pool.add(first)
    submitted = await pool.submit("Hello")
    second = FakeWorker(node_id="b", name="second", script=deltas(WORDS))
    third = FakeWorker(node_id="c", name="third", script=deltas(WORDS))
    second.gate = never(20)
    for worker in (second, third):
        worker.models = [echo("y")]
    await pool.add(second)
    await pool.until_text(submitted.generation_id, "".join(WORDS[:10]))
    await first.die()
    await pool.until_text(submitted.generation_id, "".join(WORDS[:20]))
    await pool.add(third)
    await second.die()
    text, seams, end = await followed(pool, submitted.generation_id)
    assert (text, end.reason) == (ANSWER, types.END_REASON_END_OF_TURN)
    assert [seam.exact for seam in seams] == [False, False]
    for worker, words in ((second, 10), (third, 20)):
        so_far = worker.asked[0].continuation
        assert not so_far.token_ids
        assert so_far.text == "".join(WORDS[:words])
    assert len(WORDS) < FOREIGN_TOKENS


async def test_answers_leave_a_drained_node_and_the_place_is_loaded_first(pool: Pool) -> None:
    first, second, generation_id = await two_workers(pool)
    request = pb.DrainNodeRequest(node="first", draining=True)
    await pool.client.call(pool.client.stub.DrainNode, request)
    text, (seam,), end = await followed(pool, generation_id)
    assert (text, end.reason) == (ANSWER, types.END_REASON_END_OF_TURN)
    assert seam.reason == "first is being drained"
    assert second.loaded
    assert first.cancelled == 1


async def test_an_answer_that_stalls_goes_on_elsewhere(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_scheduler.answer.STALL_SECONDS", 1.0)
    _, second, generation_id = await two_workers(pool)
    second.loaded = [WARM]
    text, (seam,), end = await followed(pool, generation_id)
    assert (text, end.reason) == (ANSWER, types.END_REASON_END_OF_TURN)
    assert seam.reason == "it stalled on first"


async def test_a_gap_in_an_answer_moves_it_and_loses_nothing(pool: Pool) -> None:
    script = deltas(WORDS)
    first = FakeWorker(node_id="a", name="first", script=[*script[:3], *script[4:]])
    await pool.add(first)
    first.gate = never(2)
    submitted = await pool.submit("Hello")
    await pool.add(FakeWorker(node_id="b", name="second", script=script))
    await pool.until_text(submitted.generation_id, "".join(WORDS[:2]))
    first.gate(2).set_result(None)  # type: ignore[union-attr]
    text, (seam,), _ = await followed(pool, submitted.generation_id)
    assert text == ANSWER
    assert seam.reason == "what came from first had a gap"


async def test_a_worker_that_always_leaves_a_gap_is_given_up_in_words(pool: Pool) -> None:
    script = deltas(WORDS)
    await pool.add(FakeWorker(script=[*script[:3], *script[4:]]))
    submitted = await pool.submit("Hello")
    text, _, end = await followed(pool, submitted.generation_id)
    assert text == "".join(WORDS[:3])
    assert end.error.code == types.ERROR_CODE_MOVED_TOO_OFTEN
    assert "skipped 1 tokens" in end.error.message


async def test_an_answer_waits_for_its_only_worker_to_return_and_goes_on_there(pool: Pool) -> None:
    worker = FakeWorker(script=deltas(WORDS))
    worker.gate = never(10)
    await pool.add(worker)
    submitted = await pool.submit("Hello")
    await pool.until_text(submitted.generation_id, "".join(WORDS[:10]))
    await worker.die()
    await pool.until(lambda nodes: nodes[0].health == pb.NODE_HEALTH_LOST)
    worker.gate = lambda _: None
    await worker.serve(pool.home.root / f"{worker.node_id}.sock")
    text, (seam,), end = await followed(pool, submitted.generation_id)
    assert (text, end.reason) == (ANSWER, types.END_REASON_END_OF_TURN)
    assert (seam.from_node, seam.to_node) == ("fake", "fake")


async def test_a_restarted_scheduler_goes_on_with_its_answers_as_workers_appear(pool: Pool) -> None:
    worker = FakeWorker(script=deltas(WORDS))
    worker.gate = never(10)
    await pool.add(worker)
    submitted = await pool.submit("Hello")
    following = asyncio.create_task(pool.healed(submitted.generation_id))
    await pool.until_text(submitted.generation_id, "".join(WORDS[:10]))
    worker.gate = lambda _: None
    await pool.restart()
    assert await following == ANSWER
    text, seams, end = await followed(pool, submitted.generation_id)
    assert (text, end.reason) == (ANSWER, types.END_REASON_END_OF_TURN)
    assert [seam.reason for seam in seams] == ["the scheduler was restarted"]
    assert len({request.sampling.seed for request in worker.asked}) == 1


async def test_a_viewer_that_saw_more_than_was_stored_sees_the_rest_once_it_is_there_again(
    pool: Pool,
) -> None:
    worker = FakeWorker(script=deltas(WORDS))
    worker.gate = never(10)
    await pool.add(worker)
    submitted = await pool.submit("Hello")
    await pool.until_text(submitted.generation_id, "".join(WORDS[:10]))
    worker.gate = never(15)
    await pool.restart()
    seen = "".join(WORDS[:20])
    following = asyncio.create_task(pool.answer(submitted.generation_id, len(seen)))
    await pool.until(lambda _: pool.daemon._service.viewers >= 2)
    worker.gate(15).set_result(None)  # type: ignore[union-attr]
    text, _ = await following
    assert seen + text == ANSWER


async def test_what_was_learned_of_speeds_outlives_a_restart(pool: Pool) -> None:
    usage = types.Usage(prompt_tokens=10, prefill_seconds=1.0, decode_seconds=6.0)
    end = types.End(reason=types.END_REASON_END_OF_TURN, usage=usage)
    await pool.add(FakeWorker(end=end))
    submitted = await pool.submit("Hello")
    await pool.answer(submitted.generation_id)
    await pool.restart()
    await pool.until(lambda nodes: bool(nodes) and nodes[0].health == pb.NODE_HEALTH_READY)
    explained = await pool.client.call(pool.client.stub.Explain, pb.ExplainRequest(model="echo"))
    assert explained.explanation.candidates[0].tokens_per_second == pytest.approx(0.5)
    speeds = pool.daemon._conductor.core.speeds
    ((pair, speed),) = speeds._speeds.items()
    assert pair[0] == NodeId("fake-node")
    assert speed.prefill_token_seconds == pytest.approx(0.1)
    assert speed.load_seconds > 0


async def test_two_workers_of_one_name_are_told_apart(pool: Pool) -> None:
    await pool.add(FakeWorker(node_id="aaaa1", name="twin"))
    await pool.add(FakeWorker(node_id="bbbb2", name="twin"))
    await pool.until(lambda nodes: {node.state.name for node in nodes} == {"twin", "twin-bbbb"})
    submitted = await pool.submit("Hello", nodes=["twin-bbbb"])
    await pool.answer(submitted.generation_id)
    assert len(pool.workers[1].asked) == 1
