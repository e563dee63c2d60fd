from __future__ import annotations

import pytest

from fakes.worker import GIB, FakeWorker, describe
from potluck_proto.errors import UnknownNode
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.decisions import ASKED, KEPT, Decisions
from scheduler.conftest import Pool


async def decisions(pool: Pool, node: str = "", limit: int = 0) -> list[types.Explanation]:
    request = pb.ListDecisionsRequest(node=node, limit=limit)
    response = await pool.client.call(pool.client.stub.ListDecisions, request)
    return list(response.decisions)


async def test_the_last_decisions_are_told_for_all_and_for_one_machine(pool: Pool) -> None:
    joining = FakeWorker(node_id="b", name="barn", models=[describe("other")])
    for worker, model in ((FakeWorker(node_id="a", name="attic"), "echo"), (joining, "other")):
        await pool.add(worker)
        submitted = await pool.submit("Hello", model)
        await pool.answer(submitted.generation_id)
    newest, oldest = await decisions(pool)
    assert (newest.model, oldest.model) == ("other", "echo")
    assert oldest.candidates[0].verdict == types.VERDICT_CHOSEN
    assert [decision.model for decision in await decisions(pool, "barn")] == ["other"]
    assert len(await decisions(pool, limit=1)) == 1


async def test_a_refusal_is_a_decision_too(pool: Pool) -> None:
    await pool.add(FakeWorker(models=[describe("echo", needed_bytes=99 * GIB)]))
    submitted = await pool.submit("Hello")
    await pool.answer(submitted.generation_id)
    (refused,) = await decisions(pool, "fake")
    assert refused.step == types.PLACEMENT_STEP_REFUSED
    assert refused.candidates[0].verdict == types.VERDICT_REJECTED


async def test_the_decisions_about_nobody_are_refused(pool: Pool) -> None:
    with pytest.raises(UnknownNode):
        await decisions(pool, "nobody")


def test_old_decisions_are_forgotten() -> None:
    kept = Decisions()
    for number in range(2 * KEPT):
        kept.note(types.Explanation(model=str(number)))
    assert len(kept.last("", 10_000)) == KEPT
    assert [decision.model for decision in kept.last("", 0)][:2] == ["399", "398"]
    assert len(kept.last("", 0)) == ASKED


async def test_the_way_to_a_worker_and_back_is_measured(pool: Pool) -> None:
    await pool.add(FakeWorker())
    await pool.until(lambda nodes: nodes[0].round_trip_seconds > 0)


async def test_a_model_is_pinned_where_it_is(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    stub = pool.client.stub
    await pool.client.call(stub.LoadModel, pb.LoadModelRequest(model="echo"))
    for pinned in (True, False):
        request = pb.PinModelRequest(model="echo", node="fake", pinned=pinned)
        await pool.client.call(stub.PinModel, request)
        assert worker.loaded[0].pinned is pinned


async def test_a_model_is_loaded_on_a_machine_by_its_name_id_or_address(pool: Pool) -> None:
    worker = await pool.add(FakeWorker(node_id="a-1", name="attic"))
    address = unix_address(pool.home.root / "a-1.sock")
    for node in ("attic", "a-1", address):
        await pool.client.call(
            pool.client.stub.LoadModel, pb.LoadModelRequest(model="echo", node=node)
        )
    assert len(worker.loaded) == 3
    with pytest.raises(UnknownNode):
        await pool.client.call(
            pool.client.stub.LoadModel, pb.LoadModelRequest(model="echo", node="barn")
        )
