"""Models and nodes that go on purpose: what becomes of the answers under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from potluck_proto.errors import Displaced, Draining, from_proto, from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.process import group_lives
from potluck_worker.settings import WorkerSettings
from worker.conftest import Worker, add_fake, prompt, running, text_of

WORDS = " ".join(f"word{number}" for number in range(40))
SLOW = f'text = "{WORDS}"\ntokens_per_second = 40\n'
ENDLESS = f'text = "{"word " * 3000}"\ntokens_per_second = 40\n'


@pytest.fixture
async def hasty(home: Home) -> AsyncIterator[Worker]:
    async with running(home, WorkerSettings(name="node", drain_seconds=0.3)) as worker:
        yield worker


async def begin(worker: Worker, model: str) -> asyncio.Task[list[pb.GenerateResponse]]:
    """Return an answer under way that has its first word."""
    begun = asyncio.Event()

    async def ask() -> list[pb.GenerateResponse]:
        responses = []
        async for response in worker.stub.Generate(prompt(model)):
            responses.append(response)
            if response.HasField("delta"):
                begun.set()
        return responses

    answer = asyncio.create_task(ask())
    await begun.wait()
    return answer


async def until_it_drains(worker: Worker) -> None:
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        if any(model.state == types.MODEL_STATE_DRAINING for model in watched.state.loaded):
            return


async def refusal(worker: Worker, model: str) -> Exception:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await worker.ask(model)
    return from_rpc(caught.value, "The worker")


async def test_a_model_is_unloaded_when_its_answers_have_ended(worker: Worker, home: Home) -> None:
    add_fake(home, "slow", SLOW)
    pid = (await worker.loaded("slow")).process_id
    answer = await begin(worker, "slow")
    unload = asyncio.ensure_future(worker.stub.Unload(pb.UnloadRequest(model="slow")))
    await until_it_drains(worker)
    error = await refusal(worker, "slow")
    assert isinstance(error, Draining)
    assert "being unloaded" in str(error)
    assert text_of(await answer) == WORDS
    assert (await unload).freed_bytes > 0
    assert not group_lives(pid)
    assert not (await worker.state()).loaded
    assert text_of(await worker.ask("slow")) == WORDS


async def test_an_answer_that_outlasts_the_drain_is_displaced_with_what_it_has(
    hasty: Worker, home: Home
) -> None:
    add_fake(home, "endless", ENDLESS)
    answers = [await begin(hasty, "endless") for _ in range(2)]
    await asyncio.gather(*(hasty.stub.Unload(pb.UnloadRequest(model="endless")) for _ in range(2)))
    for answer in answers:
        responses = await answer
        error = from_proto(responses[-1].end.error)
        assert isinstance(error, Displaced)
        assert error.retryable
        assert "endless was unloaded" in error.message
        assert text_of(responses).startswith("word ")
    assert not (await hasty.state()).loaded


async def test_a_drained_node_lets_its_answers_end_and_frees_its_models(
    worker: Worker, home: Home
) -> None:
    add_fake(home, "slow", SLOW)
    add_fake(home, "idle")
    await worker.loaded("idle")
    answer = await begin(worker, "slow")
    await worker.stub.Drain(pb.DrainRequest(draining=True))
    assert (await worker.state()).draining
    for model in ("slow", "idle"):
        assert isinstance(await refusal(worker, model), Draining)
    assert text_of(await answer) == WORDS
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        if not watched.state.loaded:
            break
    await worker.stub.Drain(pb.DrainRequest(draining=False))
    assert text_of(await worker.ask("idle")) == "You said: Hi"


async def test_a_drained_node_displaces_what_does_not_end(hasty: Worker, home: Home) -> None:
    add_fake(home, "endless", ENDLESS)
    answer = await begin(hasty, "endless")
    await hasty.stub.Drain(pb.DrainRequest(draining=True))
    error = from_proto((await answer)[-1].end.error)
    assert isinstance(error, Displaced)
    assert "node was drained" in error.message


async def test_who_waits_for_a_load_that_is_taken_back_is_told(worker: Worker, home: Home) -> None:
    add_fake(home, "large", "load_seconds = 60\n")
    waiting = asyncio.create_task(refusal(worker, "large"))
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        if watched.state.loaded and watched.state.loaded[0].process_id:
            pid = watched.state.loaded[0].process_id
            break
    await worker.stub.Unload(pb.UnloadRequest(model="large"))
    assert isinstance(await waiting, Displaced)
    assert not group_lives(pid)
    assert not (await worker.state()).loaded
