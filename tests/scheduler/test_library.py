from __future__ import annotations

import pytest

from fakes.worker import FakeWorker, describe
from potluck_proto.errors import BadRequest, ModelFileError, UnknownModel
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from scheduler.conftest import Pool


async def described(pool: Pool, model: str, node: str = "") -> pb.DescribeModelResponse:
    request = pb.DescribeModelRequest(model=model, node=node)
    return await pool.client.call(pool.client.stub.DescribeModel, request)


async def test_a_node_that_can_use_a_model_describes_it(pool: Pool) -> None:
    broken = describe("echo")
    broken.problem.CopyFrom(ModelFileError("Damaged.").to_proto())
    await pool.add(FakeWorker("a", "attic", models=[broken]))
    await pool.add(FakeWorker("b", "cellar"))
    assert (await described(pool, "echo")).node_name == "cellar"
    answer = await described(pool, "echo", "attic")
    assert answer.node_name == "attic"
    assert answer.detail.description.problem.message == "Damaged."


async def test_what_its_node_says_of_a_licence_counts_for_who_asks_for_commercial_use(
    pool: Pool,
) -> None:
    terms = {"free": types.COMMERCIAL_USE_CONDITIONS, "study": types.COMMERCIAL_USE_NO}
    await pool.add(
        FakeWorker(models=[describe(name, commercial_use=use) for name, use in terms.items()])
    )
    steps = {}
    for name in terms:
        request = pb.ExplainRequest(model=name, tags=["licence:commercial"])
        response = await pool.client.call(pool.client.stub.Explain, request)
        steps[name] = response.explanation.step
    assert steps == {
        "free": types.PLACEMENT_STEP_COLD_FITS,
        "study": types.PLACEMENT_STEP_REFUSED,
    }


async def test_without_a_quantization_the_best_is_described(pool: Pool) -> None:
    models = [describe("m", "Q4_0"), describe("m", "Q8_0")]
    models[0].bits_per_weight, models[1].bits_per_weight = 4.5, 8.5
    worker = await pool.add(FakeWorker(models=models))
    await described(pool, "m")
    await described(pool, "m:q4_0")
    assert [asked.quantization for asked in worker.inspected] == ["Q8_0", "Q4_0"]


async def test_a_model_that_nobody_has_is_not_described(pool: Pool) -> None:
    await pool.add(FakeWorker())
    with pytest.raises(UnknownModel):
        await described(pool, "nonsense")


async def removed(pool: Pool, model: str, node: str = "") -> pb.RemoveModelResponse:
    request = pb.RemoveModelRequest(model=model, node=node)
    return await pool.client.call(pool.client.stub.RemoveModel, request)


async def test_a_model_is_removed_where_it_is_or_where_one_says(pool: Pool) -> None:
    attic = await pool.add(FakeWorker("a", "attic"))
    assert (await removed(pool, "ECHO")).node_name == "attic"
    cellar = await pool.add(FakeWorker("b", "cellar"))
    with pytest.raises(BadRequest, match="attic, cellar"):
        await removed(pool, "echo")
    await removed(pool, "echo", "cellar")
    assert [len(attic.removed), len(cellar.removed)] == [1, 1]
    with pytest.raises(BadRequest, match="which model"):
        await removed(pool, "")


async def test_each_node_is_pruned_and_one_that_fails_says_why(pool: Pool) -> None:
    await pool.add(FakeWorker("a", "attic", refusal=ModelFileError("No right to it.")))
    await pool.add(FakeWorker("b", "cellar"))
    request = pb.PruneNodesRequest()
    response = await pool.client.call(pool.client.stub.PruneNodes, request)
    nodes = {node.node_name: node for node in response.nodes}
    assert nodes["attic"].problem.message == "No right to it."
    assert len(nodes["cellar"].removals) == 1
