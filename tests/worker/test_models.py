from __future__ import annotations

import os
from pathlib import Path

import pytest

from checkpoints import make_adapter, make_llama
from engines.driving import STARTER
from lineages.gguf_file import write
from lineages.kinds import LINEAGES
from lineages.make import metadata, tensors
from potluck_proto.errors import (
    AmbiguousModel,
    BadRequest,
    EngineMissing,
    ModelFileError,
    UnknownModel,
)
from potluck_proto.home import Home
from potluck_worker.engines.sizing import Described, Question
from potluck_worker.settings import ModelSettings, WorkerSettings
from worker.conftest import running
from worker.stores import MANY, store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


async def test_a_name_is_the_files_without_its_quantization(folder: Path) -> None:
    (folder / "My_Model.q8_0.gguf").symlink_to(STARTER)
    models = store(folder)
    await models.scan()
    assert ("My_Model", "Q8_0") in {(m.name, m.quantization) for m in models.models}
    for typed in (("my_model", ""), ("MY_MODEL", "q8_0"), ("my_model.Q8_0", "")):
        assert (await models.find(*typed, MANY)).name == "My_Model"
    with pytest.raises(UnknownModel):
        await models.find("my_model", "Q4_0", MANY)


async def test_a_new_file_is_found_when_it_is_asked_for(folder: Path) -> None:
    models = store(folder)
    await models.scan()
    (folder / "new.fake.toml").touch()
    assert (await models.find("new", "", MANY)).engine == "fake"


async def test_a_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "m.fake.toml").touch()
    await store(folder).scan()

    async def ask(verb: str, kind: type[Described], question: Question) -> Described:
        raise AssertionError(f"{question.path} is read again")

    monkeypatch.setattr("potluck_worker.questions.ask", ask)
    again = store(folder)
    await again.scan()
    assert "m" in {model.name for model in again.models}


async def test_a_changed_file_is_read_again(folder: Path) -> None:
    path = folder / "m.fake.toml"
    path.write_text("memory_bytes = 1000000\n")
    models = store(folder)
    before = (await models.find("m", "", MANY)).memory_needed_bytes
    path.write_text("memory_bytes = 5000000\n")
    os.utime(path, ns=(1, 1))
    await models.scan()
    after = (await models.find("m", "", MANY)).memory_needed_bytes
    assert after - before > 3_000_000


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "empty"), (b"GGUF", "truncated"), (b"PK\x03\x04zip", "not a GGUF")],
)
async def test_a_broken_file_is_listed_with_the_reason(
    folder: Path, content: bytes, part: str
) -> None:
    (folder / "broken.gguf").write_bytes(content)
    models = store(folder)
    await models.scan()
    broken = next(model for model in models.models if model.name == "broken")
    assert broken.problem is not None
    assert part in broken.problem.message
    with pytest.raises(ModelFileError, match=part):
        await models.find("broken", "", MANY)


async def test_without_the_engine_a_model_keeps_its_name_and_says_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "some-model-Q4_K_M.gguf").symlink_to(STARTER)
    models = store(folder)

    async def ask(verb: str, kind: type[Described], question: Question) -> Described:
        raise EngineMissing("llama.cpp is not installed.")

    monkeypatch.setattr("potluck_worker.questions.ask", ask)
    await models.scan()
    assert ("some-model", "Q4_K_M") in {(m.name, m.quantization) for m in models.models}
    with pytest.raises(EngineMissing, match="not installed"):
        await models.find("some-model", "", MANY)


async def test_a_file_that_kills_its_reader_is_refused_in_words(folder: Path) -> None:
    damaged = bytearray(STARTER.read_bytes()[:4096])
    damaged[8:24] = b"\xff" * 16
    (folder / "evil.gguf").write_bytes(damaged)
    with pytest.raises(ModelFileError, match=r"evil\.gguf"):
        await store(folder).find("evil", "", MANY)


async def test_a_folder_that_looks_like_a_model_is_passed_over(folder: Path) -> None:
    (folder / "folder.gguf").mkdir()
    models = store(folder)
    await models.scan()
    assert "folder" not in {model.name for model in models.models}


async def test_a_path_of_the_settings_that_is_missing_is_listed(folder: Path) -> None:
    models = store(folder, folder / "nowhere")
    await models.scan()
    missing = next(model for model in models.models if model.name == "nowhere")
    assert missing.problem is not None
    assert "does not exist" in missing.problem.message


async def test_the_same_model_in_two_folders_is_not_guessed(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (folder / "m.fake.toml").touch()
    (other / "m.fake.toml").touch()
    with pytest.raises(AmbiguousModel, match="several files"):
        await store(folder, other).find("m", "", MANY)


async def test_a_damaged_cache_costs_only_time(folder: Path) -> None:
    (folder / "m.fake.toml").touch()
    (folder.parent / "inspections.json").write_text('{"asked": 3')
    assert (await store(folder).find("m", "", MANY)).name == "m"


async def test_an_adapter_is_a_file_or_for_vllm_a_folder(folder: Path) -> None:
    base = make_llama(folder / "checkpoint")
    make_adapter(folder / "style", base)
    (folder / "style.gguf").touch()
    (folder / "starter.gguf").symlink_to(STARTER)
    models = store(folder)
    await models.scan()
    checkpoint, starter = (
        next(model for model in models.models if model.name == name)
        for name in ("checkpoint", "starter")
    )
    assert models.adapter(checkpoint, "style") == folder / "style"
    assert models.adapter(starter, "style") == folder / "style.gguf"
    for model, what in ((checkpoint, "folder"), (starter, "GGUF file")):
        with pytest.raises(BadRequest, match=what):
            models.adapter(model, "../style")


async def test_a_model_answers_in_the_prompt_format_of_the_settings(home: Home) -> None:
    kind = LINEAGES["llama"]
    said = metadata(kind, "plain")
    del said["tokenizer.chat_template"]
    write(home.models / "plain.gguf", "llama", said, tensors(kind))
    tokens = {}
    for name in ("completion", "chatml"):
        models = {"plain": ModelSettings(template=name)}
        async with running(home, WorkerSettings(name="n", models=models)) as worker:
            end = (await worker.ask("plain", "the house", max_tokens=2))[-1].end
            tokens[name] = end.usage.prompt_tokens
    assert 0 < tokens["completion"] < tokens["chatml"]
