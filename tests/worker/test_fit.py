"""Whether models fit, and how they are held: through a real worker, with memory that we set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import pytest

from potluck_proto.errors import BadRequest, ModelBusy, NotEnoughMemory, PotluckError, from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.hardware import Memory
from potluck_worker.settings import ModelSettings, WorkerSettings
from worker.conftest import Worker, add_fake, load_options, prompt, running, text_of

MIB = 2**20
GIB = 2**30
STARTER = "potluck-starter"


@dataclass
class Machine:
    """Memory that is free until a test says otherwise."""

    free_bytes: int = 8 * GIB
    total_bytes: int = 16 * GIB

    def measure(self) -> Memory:
        return Memory(self.total_bytes, self.free_bytes)


async def fit(worker: Worker, model: str, **options: object) -> types.Fit:
    """Return what a worker says of a model."""
    return (await worker.stub.Fit(pb.FitRequest(options=load_options(model, **options)))).fit


async def refused(worker: Worker, model: str, **options: object) -> PotluckError:
    """Return why a model is not loaded as asked."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await worker.loaded(model, **options)
    return from_rpc(caught.value, "The worker")


async def unfit(worker: Worker, model: str, **options: object) -> PotluckError:
    """Return why a question was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await fit(worker, model, **options)
    return from_rpc(caught.value, "The worker")


def described(state: types.NodeState, name: str) -> types.ModelDescription:
    return next(model for model in state.models if model.name == name)


async def until(worker: Worker, condition: Callable[[types.NodeState], bool]) -> types.NodeState:
    """Return the first state of a node that is as it should be."""
    async for response in worker.stub.Watch(pb.WatchRequest()):
        if condition(response.state):
            return response.state
    raise AssertionError("the stream ended")


# --- whether it fits ---


async def test_fit_says_what_a_model_takes_of_each_device(worker: Worker) -> None:
    found = await fit(worker, STARTER)
    (host,) = found.devices
    assert found.fits
    assert not found.alternatives
    assert (host.device_id, host.name) == ("host", "main memory")
    assert host.weights_bytes > 2 * MIB
    assert host.kv_cache_bytes == 24 * MIB
    assert host.compute_bytes > MIB
    assert host.process_bytes > 20 * MIB
    assert host.margin_bytes == 256 * MIB
    assert host.total_bytes > host.free_bytes > host.margin_bytes
    assert found.options.context_length == found.largest_context_length == 2048
    assert (found.options.kv_type, found.options.slots) == ("f16", 4)
    assert found.options.HasField("flash_attention")


async def test_fit_answers_for_any_context_slots_and_cache(worker: Worker) -> None:
    asked = {"context_length": 512, "slots": 2, "kv_type": "q8_0"}
    found = await fit(worker, STARTER, **asked)
    assert found.devices[0].kv_cache_bytes == pytest.approx(3 * MIB * 34 / 64, abs=MIB // 50)
    assert found.options.flash_attention
    assert (found.options.context_length, found.options.slots) == (512, 2)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"context_length": 9000}, ("9,000", "trained for 2,048")),
        ({"kv_type": "q5_1"}, ("q5_1", "f16, q8_0, q4_0")),
        ({"slots": 65}, ("65", "64")),
        ({"kv_type": "q8_0", "flash_attention": False}, ("q8_0", "flash attention")),
        ({"engine": "vllm"}, ("vllm", "llama")),
        ({"lora_adapters": ["nowhere"]}, ("nowhere", "models folder")),
        ({"lora_adapters": ["../x"]}, ("../x",)),
    ],
)
async def test_what_cannot_be_is_refused_with_what_can(
    worker: Worker, options: dict[str, object], parts: tuple[str, ...]
) -> None:
    for error in (
        await unfit(worker, STARTER, **options),
        await refused(worker, STARTER, **options),
    ):
        assert isinstance(error, BadRequest)
        assert all(part in error.message for part in parts), error.message


async def test_what_does_not_fit_comes_with_what_does_each_asked_for(home: Home) -> None:
    for bits, size_bytes in (("8", 3 * GIB), ("4", 1 * GIB), ("2", GIB // 2)):
        add_fake(
            home,
            f"m-Q{bits}_0",
            f'quantization = "Q{bits}_0"\nbits_per_weight = {bits}\n'
            f"memory_bytes = {size_bytes}\ntoken_bytes = {96 * 1024}\ncontext_length = 8192\n",
        )
    machine = Machine(free_bytes=4 * GIB)
    async with running(home, WorkerSettings(name="node"), machine.measure) as worker:
        found = await fit(worker, "m", quantization="Q8_0", context_length=8192)
        assert not found.fits
        ways = [
            (way.quantization, way.context_length, way.slots, way.kv_type)
            for way in found.alternatives
        ]
        # 4 GiB, less the margin and the process, are 3.7; a token takes 96 KiB for each slot.
        assert ways == [("Q2_0", 8192, 4, "f16"), ("Q8_0", 1792, 4, "f16")]
        assert found.largest_context_length == 1792
        for way in found.alternatives:
            request = pb.FitRequest(options=way)
            assert (await worker.stub.Fit(request)).fit.fits


# --- how it is held ---


async def test_a_model_is_held_as_its_load_asks(worker: Worker) -> None:
    loaded = await worker.loaded(
        STARTER, context_length=512, slots=2, kv_type="q8_0", flash_attention=True
    )
    assert (loaded.context_length, loaded.slots, loaded.kv_type) == (512, 2, "q8_0")
    assert loaded.flash_attention
    assert loaded.kv_cache_bytes == pytest.approx(3 * MIB * 34 / 64, abs=MIB // 50)
    assert loaded.memory_booked_bytes > loaded.memory_bytes > loaded.weights_bytes
    (state,) = (await worker.state()).loaded
    assert (state.context_length, state.kv_type, state.layers) == (512, "q8_0", 0)


async def test_settings_say_how_models_are_held_and_a_models_own_table_first(home: Home) -> None:
    settings = WorkerSettings(
        name="node",
        context_length=1024,
        slots=2,
        flash_attention=True,
        models={f"{STARTER.upper()}:Q8_0": ModelSettings(context_length=256, kv_type="q4_0")},
    )
    add_fake(home, "m")
    async with running(home, settings) as worker:
        state = await worker.state()
        assert described(state, STARTER).context_length == 256
        assert described(state, "m").context_length == 1024
        loaded = await worker.loaded(STARTER)
        assert (loaded.context_length, loaded.slots, loaded.kv_type) == (256, 2, "q4_0")


async def test_an_idle_model_is_loaded_anew_in_another_way_and_a_busy_one_is_not(
    worker: Worker, home: Home
) -> None:
    add_fake(home, "slow", 'text = "one two three four five six"\ntokens_per_second = 4\n')
    first = await worker.loaded("slow", context_length=1024)
    assert (await worker.loaded("slow", context_length=1024)).process_id == first.process_id
    assert (await worker.loaded("slow")).process_id == first.process_id
    second = await worker.loaded("slow", context_length=2048)
    assert second.process_id != first.process_id
    assert second.context_length == 2048
    answer = worker.stub.Generate(prompt("slow"))
    async for response in answer:
        if response.HasField("delta"):
            break
    error = await refused(worker, "slow", context_length=512)
    assert isinstance(error, ModelBusy)
    assert "context length 2048 and not 512" in error.message
    text = text_of([response async for response in answer])
    assert text.endswith("six")
    assert (await worker.state()).loaded[0].process_id == second.process_id


async def test_a_load_in_another_way_waits_for_nobody_but_is_refused_while_one_is_under_way(
    worker: Worker, home: Home
) -> None:
    add_fake(home, "m", "load_seconds = 1.0\n")
    loading = asyncio.create_task(worker.loaded("m", context_length=1024))
    await until(worker, lambda state: bool(state.loaded))
    error = await refused(worker, "m", context_length=512)
    assert isinstance(error, ModelBusy)
    assert "is being loaded" in error.message
    assert (await loading).context_length == 1024


# --- the default, where it does not fit ---

HUNGRY = f"memory_bytes = {GIB}\ntoken_bytes = {256 * 1024}\ncontext_length = 16384\n"
"""At the default of 4,096 tokens for 4 conversations it takes 5 GiB."""


async def test_a_default_context_that_does_not_fit_falls_to_what_does_and_the_promise_holds(
    home: Home,
) -> None:
    add_fake(home, "m", HUNGRY)
    machine = Machine(free_bytes=4 * GIB)
    async with running(home, WorkerSettings(name="node"), machine.measure) as worker:
        promised = described(await worker.state(), "m")
        assert 2048 <= promised.context_length < 4096
        assert f"{promised.context_length:,} tokens instead of 4,096" in promised.note
        assert promised.memory_needed_bytes <= 4 * GIB - 256 * MIB
        found = await fit(worker, "m")
        assert (found.fits, found.note) == (True, promised.note)
        assert found.options.context_length == promised.context_length
        assert not (await fit(worker, "m", context_length=4096)).fits
        loaded = await worker.loaded("m")
        assert loaded.context_length == promised.context_length


async def test_a_promise_is_kept_or_the_load_is_refused_but_never_less_is_loaded(
    home: Home,
) -> None:
    add_fake(home, "m", HUNGRY)
    machine = Machine(free_bytes=8 * GIB)
    async with running(home, WorkerSettings(name="node"), machine.measure) as worker:
        assert described(await worker.state(), "m").context_length == 4096
        machine.free_bytes = 4 * GIB
        error = await refused(worker, "m")
        assert isinstance(error, NotEnoughMemory)
        assert "potluck fit m" in error.message


async def test_a_plan_follows_the_memory_down_and_up(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.daemon.SCAN_SECONDS", 0.1)
    add_fake(home, "m", HUNGRY)
    machine = Machine(free_bytes=8 * GIB)
    async with running(home, WorkerSettings(name="node"), machine.measure) as worker:
        machine.free_bytes = 4 * GIB
        state = await until(worker, lambda state: bool(described(state, "m").note))
        assert described(state, "m").context_length < 4096
        machine.free_bytes = 8 * GIB
        state = await until(worker, lambda state: not described(state, "m").note)
        assert described(state, "m").context_length == 4096


async def test_what_no_context_helps_stays_as_the_settings_say_and_is_refused(home: Home) -> None:
    add_fake(home, "m", HUNGRY)
    machine = Machine(free_bytes=2 * GIB)
    async with running(home, WorkerSettings(name="node"), machine.measure) as worker:
        promised = described(await worker.state(), "m")
        assert (promised.context_length, promised.note) == (4096, "")
        assert isinstance(await refused(worker, "m"), NotEnoughMemory)


async def test_a_context_of_a_models_own_is_not_shortened(home: Home) -> None:
    add_fake(home, "m", HUNGRY)
    settings = WorkerSettings(name="node", models={"m": ModelSettings(context_length=4096)})
    machine = Machine(free_bytes=4 * GIB)
    async with running(home, settings, machine.measure) as worker:
        assert described(await worker.state(), "m").context_length == 4096
        assert isinstance(await refused(worker, "m"), NotEnoughMemory)


# --- what was learned ---


async def test_what_a_model_took_corrects_what_it_is_said_to_take(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.daemon.SCAN_SECONDS", 0.1)
    # It says that its tokens take 64 MiB, and they take nothing.
    content = f"memory_bytes = {100 * MIB}\ntakes_memory = true\ntoken_bytes = 4096\n"
    add_fake(home, "m", content)
    async with running(home) as worker:
        said_bytes = described(await worker.state(), "m").memory_needed_bytes
        await worker.ask("m")
        state = await until(
            worker, lambda state: described(state, "m").memory_needed_bytes < said_bytes
        )
        learned_bytes = described(state, "m").memory_needed_bytes
        assert said_bytes - learned_bytes == pytest.approx(64 * MIB, abs=4 * MIB)
        assert learned_bytes == pytest.approx(state.loaded[0].memory_bytes, rel=0.01)
        await worker.stub.Unload(pb.UnloadRequest(model="m"))
        assert (await fit(worker, "m")).measured
    kept = json.loads((home.root / "measurements.json").read_text())["measured"]
    assert len(kept) == 1
    async with running(home) as worker:
        again_bytes = described(await worker.state(), "m").memory_needed_bytes
        assert again_bytes == pytest.approx(learned_bytes, rel=0.01)


async def test_a_model_that_took_more_than_it_says_is_believed_no_more(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.daemon.SCAN_SECONDS", 0.1)
    add_fake(home, "m")
    async with running(home) as worker:
        await worker.ask("m")
        state = await worker.state()
        said_bytes = described(state, "m").memory_needed_bytes
        pool = worker.daemon.pool
        monkeypatch.setattr(pool, "look", lambda key: {"host": said_bytes + 50 * MIB})
        await worker.ask("m")
        await until(
            worker,
            lambda state: described(state, "m").memory_needed_bytes == said_bytes + 50 * MIB,
        )
