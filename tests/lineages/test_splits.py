"""Models that come in several files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lineages.conftest import Files
from lineages.engines import answers, loaded
from lineages.kinds import LINEAGES
from lineages.make import make
from potluck_proto.errors import ModelFileError
from potluck_worker import questions
from potluck_worker.engines.sizing import Described, Question
from potluck_worker.models import ModelStore
from potluck_worker.stored_model import StoredModel
from worker.stores import MANY, store

PROMPTS = ["the house and the computer"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the parts of one model."""
    folder = tmp_path / "models"
    folder.mkdir()
    make(folder / "large.gguf", LINEAGES["llama"], tensors_a_file=8)
    return folder


def part(folder: Path, number: int) -> Path:
    return folder / f"large-{number:05d}-of-00003.gguf"


async def listed(models: ModelStore) -> list[StoredModel]:
    await models.scan()
    return [model for model in models.models if not model.starter]


async def test_a_split_model_is_one_model_of_the_size_of_all_its_files(
    folder: Path, files: Files
) -> None:
    (model,) = await listed(store(folder))
    assert (model.name, model.problem) == ("large", None)
    assert model.file_bytes == sum(part(folder, number).stat().st_size for number in (1, 2, 3))
    with loaded(model.path) as split, loaded(files("llama")) as whole:
        (found,), (expected,) = answers(split, PROMPTS), answers(whole, PROMPTS)
    assert found.token_ids == expected.token_ids


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_missing_part_is_said_by_name(folder: Path, number: int) -> None:
    part(folder, number).unlink()
    models = store(folder)
    (model,) = await listed(models)
    assert model.name == "large"
    with pytest.raises(ModelFileError, match=rf"large-0000{number}-of-00003\.gguf"):
        await models.find("large", "", MANY)
    make(folder / "large.gguf", LINEAGES["llama"], tensors_a_file=8)
    await models.scan()
    assert (await models.find("large", "", MANY)).problem is None


async def test_a_truncated_part_is_said(folder: Path) -> None:
    whole = part(folder, 2).read_bytes()
    part(folder, 2).write_bytes(whole[: len(whole) // 2])
    (model,) = await listed(store(folder))
    assert model.problem is not None
    assert "truncated" in model.problem.message


async def test_a_part_that_changed_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = store(folder)
    (before,) = await listed(models)
    os.utime(part(folder, 3), ns=(1, 2**62))
    read: list[str] = []
    ask = questions.ask

    async def counted(verb: str, kind: type[Described], question: Question) -> Described:
        read.append(Path(question.path).name)
        return await ask(verb, kind, question)

    monkeypatch.setattr(questions, "ask", counted)
    assert [model.path for model in await listed(models)] == [before.path]
    assert read == [part(folder, 1).name]
