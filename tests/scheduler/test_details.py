from __future__ import annotations

import pytest

from fakes.worker import FakeWorker, describe
from potluck_proto.errors import ModelFileError, UnknownModel
from potluck_proto.v1 import scheduler_pb2 as pb
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
