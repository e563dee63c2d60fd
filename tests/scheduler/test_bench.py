from __future__ import annotations

import argparse
import asyncio
import json

import pytest

from fakes.worker import GIB, FakeWorker, deltas, describe
from potluck_proto.errors import (
    BadRequest,
    ModelBusy,
    NodeLost,
    NotEnoughMemory,
    PotluckError,
    TemplateError,
    UnknownModel,
    UnknownNode,
)
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.core.model import ModelKey
from potluck_tui.commands.bench import bench, benchmark_lines, progress_line
from potluck_tui.commands.recommend import recommendation_lines
from potluck_tui.pool import ModelView
from scheduler.conftest import Pool

END = types.End(
    reason=types.END_REASON_MAX_TOKENS,
    usage=types.Usage(
        prompt_tokens=110,
        cached_prompt_tokens=10,
        completion_tokens=50,
        prefill_seconds=0.5,
        decode_seconds=2.0,
    ),
)
"""100 tokens were read at 200 a second, and 50 written at 25."""


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potluck_scheduler.bench.LEVEL_SECONDS", 0.3)


@pytest.fixture
def home(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a pool whose daemons run."""
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    return pool.home


def worker(node_id: str = "a", name: str = "attic", **more: object) -> FakeWorker:
    """Return a worker whose answers take a moment."""
    known = {"end": END, "gate": lambda _: asyncio.sleep(0.02)}
    return FakeWorker(node_id, name, **(known | more))  # type: ignore[arg-type]


def options(**more: object) -> argparse.Namespace:
    return argparse.Namespace(**({"model": "echo", "node": "", "json": False, "ssh": ""} | more))


async def benchmarks(pool: Pool) -> list[pb.Benchmark]:
    response = await pool.client.call(pool.client.stub.ListModels, pb.ListModelsRequest())
    return [benchmark for model in response.models for benchmark in model.benchmarks]


async def refusal(pool: Pool, model: str = "echo", node: str = "") -> PotluckError:
    with pytest.raises(PotluckError) as caught:
        async for _ in pool.client.bench(pb.BenchModelRequest(model=model, node=node)):
            pass
    return caught.value


async def test_a_model_is_measured_at_one_stream_and_at_more(
    pool: Pool, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    attic = await pool.add(worker(watts=30.0))
    cellar = await pool.add(worker("b", "cellar"))
    assert await bench(options(node="attic", json=True), home) == 0
    assert not cellar.asked
    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {step.get("progress", {}).get("streams") for step in steps} == {None, 1, 2, 4}
    (benchmark,) = await benchmarks(pool)
    assert (benchmark.node_name, benchmark.model) == ("attic", "echo")
    assert [level.streams for level in benchmark.levels] == [1, 2, 4]
    for level in benchmark.levels:
        assert level.prefill_tokens_per_second == pytest.approx(200)
        assert level.decode_tokens_per_second == pytest.approx(25)
        assert level.time_to_first_token_seconds > 0.02
        watts = level.joules_per_token * level.total_tokens_per_second
        assert watts == pytest.approx(30)
    prompts = [request.messages[0].content for request in attic.asked]
    assert len(set(prompts)) == len(prompts)
    assert any("tokens/s" in line.words for line in (await view(pool)).benchmarks)


async def view(pool: Pool) -> ModelView:
    response = await pool.client.call(pool.client.stub.ListModels, pb.ListModelsRequest())
    return ModelView.from_proto(response.models[0])


async def test_what_was_measured_outlives_a_restart_and_is_reckoned_with(
    pool: Pool, home: Home
) -> None:
    await pool.add(worker(models=[describe("qwen3-0.6b", "Q8_0")]))
    await bench(options(model="qwen3-0.6b"), home)
    (before,) = await benchmarks(pool)
    await pool.restart()
    await pool.until(lambda nodes: any(node.state.models for node in nodes))
    assert await benchmarks(pool) == [before]
    core = pool.daemon._conductor.core
    pair = next(iter(core.speeds._speeds))
    assert pair[1] == ModelKey("qwen3-0.6b", "Q8_0")
    node = core.node(pair[0])
    assert node is not None
    model = node.files[pair[1]]
    assert core.speeds.seconds_per_token(node, model, 1) == pytest.approx(1 / 25)
    assert core.speeds.prefill_seconds_per_token(node, model) == pytest.approx(1 / 200)
    response = await pool.client.call(pool.client.stub.Recommend, pb.RecommendRequest())
    (found,) = [row for row in response.recommendations if row.name.lower() == "qwen3-0.6b"]
    assert found.measured
    assert found.tokens_per_second == pytest.approx(25)
    assert found.benchmark == before
    lines = list(recommendation_lines(response, len(response.recommendations)))
    assert any(f"{found.name} as measured on attic: 25 tokens/s, " in line for line in lines)


@pytest.mark.parametrize("quick", ["attic", "cellar"])
async def test_an_answer_goes_where_the_model_was_measured_to_be_quicker(
    pool: Pool, home: Home, quick: str
) -> None:
    ready = types.LoadedModel(name="echo", slots=4, state=types.MODEL_STATE_READY)
    for node_id, name in (("a", "attic"), ("b", "cellar")):
        end = types.End()
        end.CopyFrom(END)
        end.usage.decode_seconds = 0.5 if name == quick else 5.0
        await pool.add(worker(node_id, name, end=end, loaded=[ready]))
        await bench(options(node=name), home)
    submitted = await pool.submit("Hello", "echo")
    await pool.answer(submitted.generation_id)
    request = pb.ListDecisionsRequest(limit=1)
    response = await pool.client.call(pool.client.stub.ListDecisions, request)
    (decision,) = response.decisions
    assert decision.node_name == quick
    speeds = {each.node_name: round(each.tokens_per_second) for each in decision.candidates}
    assert speeds == {name: 100 if name == quick else 10 for name in ("attic", "cellar")}


async def test_a_measurement_that_is_left_ends_its_answers_and_keeps_nothing(
    pool: Pool, home: Home
) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    def stall(number: int) -> asyncio.Task[object] | None:
        begun.set()
        return asyncio.ensure_future(never.wait()) if number else None

    attic = await pool.add(worker(gate=stall))
    measuring = asyncio.create_task(bench(options(), home))
    await begun.wait()
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    while not attic.cancelled:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await benchmarks(pool) == []


async def test_what_cannot_be_measured_says_why_in_a_sentence(pool: Pool) -> None:
    attic = await pool.add(
        worker(models=[describe("echo"), describe("huge", needed_bytes=9 * GIB)])
    )
    await pool.add(worker("b", "cellar", models=[describe("other")]))
    assert isinstance(await refusal(pool, "nonsense"), UnknownModel)
    assert isinstance(await refusal(pool, node="nowhere"), UnknownNode)
    lacking = await refusal(pool, "echo", "cellar")
    assert isinstance(lacking, UnknownModel)
    assert lacking.message == "cellar does not have echo."
    assert isinstance(await refusal(pool, "huge"), NotEnoughMemory)
    attic.refusal = TemplateError("The template fails.")
    assert (await refusal(pool)).message == "The template fails."
    attic.refusal = None
    attic.end = types.End(reason=types.END_REASON_END_OF_TURN)
    silent = await refusal(pool)
    assert isinstance(silent, BadRequest)
    assert "at once" in silent.message
    assert await benchmarks(pool) == []


async def test_a_machine_that_works_for_others_is_not_measured(pool: Pool) -> None:
    busy = types.LoadedModel(name="echo", slots=4, slots_busy=2, state=types.MODEL_STATE_READY)
    await pool.add(worker(loaded=[busy]))
    refused = await refusal(pool)
    assert isinstance(refused, ModelBusy)
    assert "attic has 2 answers under way" in refused.message


async def test_a_machine_that_dies_meanwhile_is_said_to_be_lost(pool: Pool) -> None:
    attic = await pool.add(worker(script=deltas(["a "] * 200)))
    measuring = asyncio.create_task(refusal(pool))
    while not attic.asked:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await attic.die()
    assert isinstance(await measuring, NodeLost)


def test_a_benchmark_is_a_table_and_its_progress_a_line() -> None:
    levels = [
        pb.BenchmarkLevel(
            streams=1,
            prefill_tokens_per_second=412.4,
            decode_tokens_per_second=8.24,
            total_tokens_per_second=7.1,
            time_to_first_token_seconds=0.62,
            joules_per_token=3.14,
        ),
        pb.BenchmarkLevel(streams=2, decode_tokens_per_second=7, total_tokens_per_second=13),
    ]
    benchmark = pb.Benchmark(
        node_name="attic", model="m", quantization="Q8_0", memory_bytes=GIB, levels=levels
    )
    title, _, _, alone, both, *_ = benchmark_lines(benchmark)
    assert title == "m:Q8_0 on attic, 1.0 GiB in memory"
    assert alone.split() == ["1", "412", "8.2", "7.1", "0.62", "s", "3.1"]
    assert both.split() == ["2", "-", "7.0", "13", "0.00", "s", "-"]
    response = pb.BenchModelResponse(node_name="attic", progress=pb.BenchmarkProgress())
    assert progress_line(response) == "Loading on attic"
    response.progress.streams, response.progress.most_streams, response.progress.tokens = 2, 4, 1
    assert progress_line(response) == "On attic: 2 answers at once of up to 4, 1 token so far"
