from __future__ import annotations

import pytest

from fakes.worker import FakeWorker, describe
from potluck_proto.errors import BadRequest, NoNodes, PotluckError, UnknownModel, UnknownNode
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from scheduler.conftest import Pool


async def fits(pool: Pool, model: str, node: str = "", **options: object) -> list[pb.NodeFit]:
    request = pb.FitModelRequest(
        model=model,
        node=node,
        options=types.LoadOptions(**options),  # type: ignore[arg-type]
    )
    return list((await pool.client.call(pool.client.stub.FitModel, request)).nodes)


async def refusal(pool: Pool, model: str, node: str = "") -> PotluckError:
    with pytest.raises(PotluckError) as caught:
        await fits(pool, model, node)
    return caught.value


async def test_each_node_that_has_a_model_is_asked(pool: Pool) -> None:
    small = await pool.add(
        FakeWorker("a", "attic", fit=types.Fit(largest_context_length=512), free_bytes=0)
    )
    large = await pool.add(FakeWorker("b", "cellar"))
    other = await pool.add(FakeWorker("c", "shed", models=[describe("other")]))
    answers = await fits(pool, "Echo", context_length=1024, kv_type="q8_0", gpu_layers=0)
    by_name = {answer.node_name: answer.fit for answer in answers}
    assert by_name == {
        "attic": types.Fit(largest_context_length=512),
        "cellar": types.Fit(fits=True),
    }
    asked = types.LoadOptions(model="echo", context_length=1024, kv_type="q8_0", gpu_layers=0)
    assert small.fit_asked == large.fit_asked == [asked]
    assert not other.fit_asked


async def test_one_node_can_be_asked_alone(pool: Pool) -> None:
    for node_id, name in (("a", "attic"), ("b", "cellar")):
        await pool.add(FakeWorker(node_id, name))
    for named in ("cellar", "b"):
        assert [answer.node_name for answer in await fits(pool, "echo", named)] == ["cellar"]


async def test_of_several_quantizations_each_node_takes_its_best(pool: Pool) -> None:
    models = [describe("m", "Q8_0"), describe("m", "Q4_0")]
    worker = await pool.add(FakeWorker(models=models))
    await fits(pool, "m")
    await fits(pool, "m:q4_0")
    await fits(pool, "m-Q8_0")
    assert [(asked.model, asked.quantization) for asked in worker.fit_asked] == [
        ("m", ""),
        ("m", "Q4_0"),
        ("m", "Q8_0"),
    ]


async def test_no_model_means_the_pools_default(pool: Pool) -> None:
    worker = await pool.add(FakeWorker())
    await fits(pool, "")
    assert worker.fit_asked[0].model == "echo"


async def test_a_node_that_refuses_says_why_beside_those_that_answer(pool: Pool) -> None:
    await pool.add(FakeWorker("a", "attic", refusal=BadRequest("Too long: 9 of 8.")))
    await pool.add(FakeWorker("b", "cellar"))
    by_name = {answer.node_name: answer for answer in await fits(pool, "echo")}
    assert by_name["attic"].problem.message == "Too long: 9 of 8."
    assert by_name["cellar"].fit.fits


async def test_what_nobody_has_is_said_with_what_there_is(pool: Pool) -> None:
    assert isinstance(await refusal(pool, "echo"), NoNodes)
    await pool.add(FakeWorker("a", "attic"))
    await pool.add(FakeWorker("b", "cellar", models=[describe("other")]))
    unknown = await refusal(pool, "nonsense")
    assert isinstance(unknown, UnknownModel)
    assert "echo" in unknown.message
    elsewhere = await refusal(pool, "other", "attic")
    assert isinstance(elsewhere, UnknownModel)
    assert "attic does not have other" in elsewhere.message
    nobody = await refusal(pool, "echo", "roof")
    assert isinstance(nobody, UnknownNode)
    assert "attic, cellar" in nobody.message


async def test_memory_that_is_a_part_of_the_hosts_is_not_added_to_it(pool: Pool) -> None:
    worker = FakeWorker(models=[describe("echo", needed_bytes=12 * 2**30)])
    state = worker.state()
    unified = types.Device(id="Metal", memory_free_bytes=8 * 2**30, unified=True)
    state.devices.append(unified)
    worker.state = lambda: state  # type: ignore[method-assign]
    await pool.add(worker)
    submitted = await pool.submit("Hi")
    _, end = await pool.answer(submitted.generation_id)
    assert end.error.code == types.ERROR_CODE_NOT_ENOUGH_MEMORY
    assert "8.0 of 8.0 GiB" in end.error.message
