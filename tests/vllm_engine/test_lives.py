from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from checkpoints import make_adapter, make_llama
from potluck_proto import network
from potluck_proto.errors import BadRequest, ModelFileError, PotluckError
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.engines.base import Load
from potluck_worker.installed import Engines
from potluck_worker.supervisor import EngineProcess
from vllm_engine.conftest import VLLM_PYTHON
from worker.conftest import Worker, load_options, prompt, text_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def process_of(worker: Worker, name: str) -> int:
    """Return the process id of a model's engine."""
    state = await worker.state()
    (loaded,) = [model for model in state.loaded if model.name == name]
    return loaded.process_id


async def gone(family: list[psutil.Process]) -> None:
    """Wait until processes have ended."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


async def load_alone(load: Load, folder: Path) -> None:
    """Load a model in a child of its own, which refuses it."""
    engines = Engines(Path(VLLM_PYTHON), folder / "packages")
    await engines.look()
    interpreter = engines.interpreter("vllm")
    process = EngineProcess("vllm", folder / "log", lambda: None, interpreter=interpreter)
    await process.load(load, 0)


async def test_an_adapter_changes_what_a_model_says_and_takes_what_was_said_before(
    worker: Worker,
) -> None:
    make_adapter(worker.home.models / "style", worker.home.models / "llama")
    plain = text_of(await worker.ask("llama", temperature=0, max_tokens=20))
    options = load_options("llama", context_length=256, lora_adapters=["style"])
    fit = (await worker.stub.Fit(pb.FitRequest(options=options))).fit
    assert (fit.fits, fit.measured) == (True, False)
    assert fit.largest_context_length == fit.training_context_length
    (host,) = fit.devices
    said = host.weights_bytes + host.kv_cache_bytes + host.compute_bytes + host.process_bytes
    await worker.loaded("llama", context_length=256, lora_adapters=["style"])
    assert text_of(await worker.ask("llama", temperature=0, max_tokens=20)) not in ("", plain)
    (loaded,) = [model for model in (await worker.state()).loaded if model.name == "llama"]
    assert loaded.context_length == 256
    assert loaded.memory_booked_bytes == said
    assert abs(loaded.memory_bytes - said) < 32 * 2**20
    await worker.stub.Unload(pb.UnloadRequest(model="llama"))


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        ({"lora_adapters": ["a", "b"]}, BadRequest, "one LoRA adapter"),
        ({"lora_adapters": ["nowhere"]}, ModelFileError, "no adapter_model.safetensors"),
        ({"kv_type": "q8_0"}, BadRequest, "no KV cache of q8_0"),
        ({"gpu_layers": 3}, BadRequest, "gpu_layers"),
    ],
)
async def test_a_way_to_load_that_vllm_has_not_is_refused_before_any_work(
    worker: Worker, tmp_path: Path, change: dict[str, object], error: type[PotluckError], part: str
) -> None:
    load = Load(str(worker.home.models / "llama"), 512, 2, **change)  # type: ignore[arg-type]
    with pytest.raises(error, match=part):
        await load_alone(load, tmp_path)


async def test_a_shape_that_vllm_cannot_compute_is_said_in_words(tmp_path: Path) -> None:
    folder = make_llama(
        tmp_path / "odd", model_type="nonsense", architectures=["NonsenseForCausalLM"]
    )
    with pytest.raises(PotluckError, match="nonsense"):
        await load_alone(Load(str(folder), 512, 2), tmp_path)


async def test_a_killed_engine_ends_its_answers_in_words_and_the_next_prompt_loads_it_again(
    worker: Worker,
) -> None:
    await worker.ask("opt", max_tokens=1)
    pid = await process_of(worker, "opt")
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    responses = []
    async for response in worker.stub.Generate(prompt("opt", temperature=0)):
        responses.append(response)
        if len(responses) == 3:
            os.kill(pid, signal.SIGKILL)
    end = responses[-1].end
    assert end.error.code == types.ERROR_CODE_ENGINE_DIED
    assert "SIGKILL" in end.error.message
    await gone(family)
    again = await worker.ask("opt", temperature=0, max_tokens=400)
    assert text_of(again).startswith(text_of(responses))
    assert await process_of(worker, "opt") != pid


async def test_nothing_is_left_of_an_engine_that_was_unloaded(worker: Worker) -> None:
    await worker.ask("opt", max_tokens=1)
    pid = await process_of(worker, "opt")
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    await worker.stub.Unload(pb.UnloadRequest(model="opt"))
    await gone(family)


async def test_a_worker_that_is_killed_takes_an_engine_that_loads_with_it(short_tmp: Path) -> None:
    home = Home(short_tmp)
    home.prepare()
    make_llama(home.models / "llama")
    environment = {"POTLUCK_HOME": str(short_tmp), "POTLUCK_WORKER_VLLM_PYTHON": VLLM_PYTHON}
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "potluck_worker"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    assert daemon.stdout is not None
    await daemon.stdout.readline()
    async with network.dial(network.unix_address(home.worker_socket)) as channel:
        loading = pb_grpc.WorkerServiceStub(channel).Load(
            pb.LoadRequest(options=types.LoadOptions(model="llama"))
        )
        async for response in loading:
            if response.fraction > 0:  # it is on its way into vLLM
                break
        family = psutil.Process(daemon.pid).children(recursive=True)
        assert family
        daemon.kill()
        await daemon.wait()
        await gone(family)
