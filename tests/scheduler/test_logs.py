from __future__ import annotations

import asyncio
import time

import pytest

from fakes.worker import FakeWorker
from potluck_proto.errors import BadRequest, NoNodes, PotluckError, UnknownModel, UnknownNode
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.logs import node_of_log
from scheduler.conftest import Pool


def node(name: str, *models: str, loaded: tuple[str, ...] = ()) -> types.NodeState:
    return types.NodeState(
        node_id=f"id-{name}",
        name=name,
        models=[types.ModelDescription(name=model, quantization="Q8_0") for model in models],
        loaded=[types.LoadedModel(name=model, quantization="Q8_0") for model in loaded],
    )


ATTIC, STUDIO = node("attic", "small", "large"), node("studio", "small", loaded=("small",))


@pytest.mark.parametrize(
    ("model", "local", "meant"),
    [
        ("large", "", "attic"),
        ("LARGE:q8_0", "", "attic"),
        ("small", "", "studio"),
        ("", "id-attic", "attic"),
    ],
)
def test_the_log_that_is_meant_is_where_the_model_is(model: str, local: str, meant: str) -> None:
    assert node_of_log([ATTIC, STUDIO], model, local) == f"id-{meant}"


@pytest.mark.parametrize(
    ("states", "model", "error", "words"),
    [
        ([], "", NoNodes, "No worker"),
        ([ATTIC, STUDIO], "", BadRequest, "several nodes: attic, studio. Say which with --node"),
        ([ATTIC, node("b", "large")], "large", BadRequest, "large is on several nodes: attic, b"),
        ([ATTIC], "large:Q4_K_M", UnknownModel, "No node has a model 'large:Q4_K_M'"),
    ],
)
def test_a_log_that_could_be_any_is_asked_for(
    states: list[types.NodeState], model: str, error: type[PotluckError], words: str
) -> None:
    with pytest.raises(error, match=words):
        node_of_log(states, model, "")


async def read(pool: Pool, **asked: object) -> list[pb.ReadLogsResponse]:
    request = pb.ReadLogsRequest(**asked)  # type: ignore[arg-type]
    return [response async for response in pool.client.read_logs(request)]


async def test_a_workers_log_comes_through_the_scheduler(pool: Pool) -> None:
    await pool.add(FakeWorker(logs={"": ["own"], "echo": [f"{n}" for n in range(9)]}))
    (response,) = await read(pool, model="echo", lines=2)
    assert list(response.lines) == ["7", "8"]
    assert response.node_name == "fake"
    assert list(response.models) == ["echo"]
    (own,) = await read(pool)
    assert list(own.lines) == ["own"]
    (named,) = await read(pool, node="fake")
    assert list(named.lines) == ["own"]


async def test_a_log_that_cannot_be_read_is_said_in_words(pool: Pool) -> None:
    await pool.add(FakeWorker())
    with pytest.raises(BadRequest, match="echo has no log"):
        await read(pool, model="echo")
    with pytest.raises(UnknownNode, match="No node is called 'nowhere'"):
        await read(pool, node="nowhere")


async def test_a_reader_who_follows_sees_new_lines_and_may_leave(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    seen: list[str] = []
    request = pb.ReadLogsRequest(node="fake", follow=True)
    log = pool.client.read_logs(request)
    async for response in log:
        seen += response.lines
        if len(seen) == 3:
            break
        worker.new_lines.put_nowait(f"new {len(seen)}")
    assert seen == ["the worker's line", "new 1", "new 2"]
    await log.aclose()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while worker.log_readers or pool.daemon._service.viewers:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_worker_that_dies_ends_the_reading_in_words(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    with pytest.raises(PotluckError):
        async for _ in pool.client.read_logs(pb.ReadLogsRequest(node="fake", follow=True)):
            await worker.die()


async def test_the_schedulers_own_log_can_be_read(pool: Pool) -> None:
    log = pool.home.logs / "scheduler.log"
    log.write_text("first\nsecond\n")
    (response,) = await read(pool, scheduler=True)
    assert list(response.lines) == ["first", "second"]
