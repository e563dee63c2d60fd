from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from checkpoints import make_llama
from library.caches import fingerprint, ollama, starter
from potluck_proto.errors import from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.settings import WorkerSettings
from worker.conftest import Worker, add_fake, running


@pytest.fixture
def home(short_tmp: Path) -> Home:
    home = Home(short_tmp)
    home.prepare()
    return home


@pytest.fixture
async def worker(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Worker]:
    """A worker with a model of its own, one in a folder of the user's, and one of Ollama's."""
    user = tmp_path / "user"
    monkeypatch.setenv("HOME", str(user))
    ollama(user, "theirs")
    add_fake(home, "mine")
    starter(tmp_path / "elsewhere/users-Q8_0.gguf")
    settings = WorkerSettings(name="n", use_caches=True, model_paths=[tmp_path / "elsewhere"])
    async with running(home, settings) as worker:
        await worker.daemon.store.scan()
        yield worker


async def remove(worker: Worker, model: str, **more: object) -> pb.RemoveResponse:
    return await worker.stub.Remove(pb.RemoveRequest(model=model, **more))  # type: ignore[arg-type]


async def refusal(worker: Worker, model: str) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await remove(worker, model)
    return from_rpc(caught.value, "the worker").message


async def names(worker: Worker) -> set[str]:
    return {model.name for model in (await worker.state()).models}


async def test_a_model_is_deleted_after_it_is_unloaded(worker: Worker, home: Home) -> None:
    await worker.loaded("mine")
    (removal,) = (await remove(worker, "mine")).removals
    assert removal.path == str(home.models / "mine.fake.toml")
    assert not list(home.models.iterdir())
    state = await worker.state()
    assert not state.loaded
    assert "mine" not in {model.name for model in state.models}


async def test_a_dry_run_deletes_nothing_and_says_what_would_be_free(
    worker: Worker, home: Home
) -> None:
    path = starter(home.models / "large-Q8_0.gguf")
    (removal,) = (await remove(worker, "large", dry_run=True)).removals
    assert removal.freed_bytes == path.stat().st_size
    assert "large" in await names(worker)


async def test_files_of_others_are_never_deleted(worker: Worker, tmp_path: Path) -> None:
    before = fingerprint(tmp_path)
    assert "ollama rm theirs:latest" in await refusal(worker, "theirs")
    assert "delete the file yourself" in await refusal(worker, "users")
    assert "comes with Potluck" in await refusal(worker, "potluck-starter")
    assert fingerprint(tmp_path) == before


async def test_of_a_link_the_link_alone_is_deleted(
    worker: Worker, home: Home, tmp_path: Path
) -> None:
    target = starter(tmp_path / "target.gguf")
    (home.models / "link.gguf").symlink_to(target)
    (removal,) = (await remove(worker, "link")).removals
    assert removal.freed_bytes == 0
    assert target.exists()
    assert not (home.models / "link.gguf").is_symlink()


async def test_a_checkpoint_is_deleted_with_its_folder(worker: Worker, home: Home) -> None:
    folder = make_llama(home.models / "checkpoint")
    size = sum(path.stat().st_size for path in folder.iterdir())
    (removal,) = (await remove(worker, "checkpoint")).removals
    assert removal.freed_bytes == size
    assert not folder.exists()


async def test_which_of_several_quantizations_must_be_said(worker: Worker, home: Home) -> None:
    for name in ("Q4_0", "Q8_0"):
        add_fake(home, f"twin-{name}", f'quantization = "{name}"\n')
    await worker.daemon.store.scan()
    assert "twin:Q4_0, twin:Q8_0" in await refusal(worker, "twin")
    await remove(worker, "twin", quantization="q4_0")
    assert not (home.models / "twin-Q4_0.fake.toml").exists()
    assert (home.models / "twin-Q8_0.fake.toml").exists()


async def test_what_nobody_needs_is_pruned(worker: Worker, home: Home) -> None:
    await worker.loaded("mine")
    home.downloads.mkdir()
    (home.downloads / "half").write_bytes(b"12345")
    (home.logs / "engine-gone@Q8_0.log").write_text("bye")
    planned = await worker.stub.Prune(pb.PruneRequest(dry_run=True))
    freed = {Path(r.path).name: (r.freed_bytes, r.reason) for r in planned.removals}
    assert freed == {
        "half": (5, "an unfinished download"),
        "engine-gone@Q8_0.log": (3, "the log of a model that is gone"),
    }
    assert (home.downloads / "half").exists()
    await worker.stub.Prune(pb.PruneRequest())
    assert not list(home.downloads.iterdir())
    assert [path.name for path in home.logs.glob("engine-*")] == ["engine-mine.log"]
