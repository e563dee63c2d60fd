from __future__ import annotations

import argparse
import json
from pathlib import Path

import grpc
import pytest

from checkpoints import make_llama
from library.caches import fingerprint, starter
from lineages.kinds import LINEAGES
from lineages.make import make
from potluck_proto.errors import BadRequest, ModelFileError, PotluckError, from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import worker_pb2 as pb
from potluck_tui.commands.adding import add as add_command
from worker.conftest import Worker, running


@pytest.fixture
def home(short_tmp: Path) -> Home:
    home = Home(short_tmp)
    home.prepare()
    return home


async def add(worker: Worker, path: Path | str) -> list[str]:
    response = await worker.stub.Add(pb.AddRequest(path=str(path)))
    return [model.name for model in response.models]


async def refusal(worker: Worker, path: Path | str) -> PotluckError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await add(worker, path)
    return from_rpc(caught.value, "the worker")


async def names(worker: Worker) -> set[str]:
    return {model.name for model in (await worker.state()).models} - {"potluck-starter"}


async def test_a_file_is_used_where_it_lies_and_kept_over_restarts(
    home: Home, tmp_path: Path
) -> None:
    path = starter(tmp_path / "far/away-Q8_0.gguf")
    before = fingerprint(tmp_path / "far")
    async with running(home) as worker:
        assert await add(worker, path) == ["away"]
        assert await add(worker, path) == ["away"]
        assert await worker.ask("away", max_tokens=2)
    async with running(home) as worker:
        assert await names(worker) == {"away"}
        (removal,) = (await worker.stub.Remove(pb.RemoveRequest(model="away"))).removals
        assert (removal.path, removal.freed_bytes, removal.forgotten) == (str(path), 0, True)
        assert not await names(worker)
    assert fingerprint(tmp_path / "far") == before
    assert json.loads(home.added_models_file.read_text()) == []


async def test_folders_checkpoints_and_parts_are_added_whole(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "several"
    starter(folder / "one-Q8_0.gguf")
    starter(folder / "two-Q8_0.gguf")
    make_llama(tmp_path / "checkpoint")
    (tmp_path / "split").mkdir()
    make(tmp_path / "split/split-F32.gguf", LINEAGES["llama"], tensors_a_file=8)
    second = sorted((tmp_path / "split").iterdir())[1]
    async with running(home) as worker:
        assert await add(worker, folder) == ["one", "two"]
        assert await add(worker, folder / "two-Q8_0.gguf") == ["two"]
        assert await add(worker, tmp_path / "checkpoint") == ["checkpoint"]
        assert await add(worker, second) == ["split"]
        (removal,) = (await worker.stub.Remove(pb.RemoveRequest(model="one"))).removals
        assert removal.path == str(folder)
        assert "with all models in it" in removal.reason
        assert await names(worker) == {"checkpoint", "split"}


async def test_what_is_no_model_is_refused_with_the_reason_and_not_remembered(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "fake.gguf").write_text("not what it says")
    (tmp_path / "empty").mkdir()
    pickles = tmp_path / "pickles"
    pickles.mkdir()
    (pickles / "pytorch_model.bin").write_bytes(b"x")
    described = tmp_path / "described"
    described.mkdir()
    (described / "config.json").write_text("{}")
    (described / "pytorch_model.bin").write_bytes(b"x")
    weights = make_llama(tmp_path / "checkpoint") / "model.safetensors"
    async with running(home) as worker:
        for path, words in (
            (tmp_path / "none.gguf", "does not exist on this machine"),
            (tmp_path / "notes.txt", "is no model: Potluck reads files that end in .gguf"),
            (tmp_path / "fake.gguf", "fake.gguf"),
            (tmp_path / "empty", "is no model"),
            (pickles, "is a pickle, which can run program code"),
            (pickles / "pytorch_model.bin", "is a pickle, which can run program code"),
            (described, "pickle"),
            (weights, "Add the folder that has its config.json"),
        ):
            error = await refusal(worker, path)
            assert words in error.message
            assert isinstance(error, ModelFileError)
        assert isinstance(await refusal(worker, "some/where.gguf"), BadRequest)
        assert not await names(worker)


async def test_what_went_away_is_listed_with_how_to_forget_it(home: Home, tmp_path: Path) -> None:
    path = starter(tmp_path / "disk/away-Q8_0.gguf")
    async with running(home) as worker:
        await add(worker, path)
        path.unlink()
        await worker.daemon.store.scan()
        (model,) = [m for m in (await worker.state()).models if not m.starter]
        assert f"`potluck rm {model.name}` forgets it" in model.problem.message
        await worker.stub.Remove(pb.RemoveRequest(model=model.name))
        assert not await names(worker)


async def test_a_model_of_the_models_folder_is_there_already_and_still_deleted(
    home: Home,
) -> None:
    path = starter(home.models / "mine-Q8_0.gguf")
    async with running(home) as worker:
        assert await add(worker, path) == ["mine"]
        await worker.stub.Remove(pb.RemoveRequest(model="mine"))
    assert not path.exists()


async def test_the_command_adds_by_a_path_from_here(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    starter(tmp_path / "here-Q8_0.gguf")
    monkeypatch.chdir(tmp_path)
    async with running(home):
        options = argparse.Namespace(path="here-Q8_0.gguf", json=False)
        assert await add_command(options, home) == 0
        assert "here:Q8_0 is used where it lies." in capsys.readouterr().out
        with pytest.raises(ModelFileError, match="does not exist"):
            await add_command(argparse.Namespace(path="none", json=False), home)
