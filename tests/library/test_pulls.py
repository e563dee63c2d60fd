from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from checkpoints import make_llama
from engines.driving import STARTER
from fakes.hub import FakeHub, HubFile, HubRepo, Trouble
from lineages.kinds import LINEAGES
from lineages.make import make
from potluck_proto.errors import (
    BadRequest,
    DiskFull,
    HubError,
    HubUnreachable,
    PotluckError,
    from_rpc,
)
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.library import pulls
from worker.conftest import Worker, running

REPO = "maker/Model-GGUF"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with one repository, which the worker's children speak to."""
    with FakeHub() as hub:
        files = {"README.md": HubFile(b"# A model", large=False)}
        files["model-Q8_0.gguf"] = HubFile(STARTER.read_bytes())
        hub.repos[REPO] = HubRepo(files, parameters=2_200_000)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


@pytest.fixture
def home(short_tmp: Path) -> Home:
    home = Home(short_tmp)
    home.prepare()
    return home


@pytest.fixture
async def worker(hub: FakeHub, home: Home) -> AsyncIterator[Worker]:
    async with running(home) as worker:
        yield worker


async def pull(worker: Worker, variant: str = "", name: str = REPO) -> types.ModelDescription:
    request = pb.PullRequest(repository=name, variant=variant)
    responses = [response async for response in worker.stub.Pull(request)]
    assert all(response.HasField("download") for response in responses[:-1])
    return responses[-1].model


async def refusal(worker: Worker, variant: str = "", name: str = REPO) -> PotluckError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pull(worker, variant, name)
    return from_rpc(caught.value, "the worker")


def list_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def listed(home: Home) -> set[str]:
    return {path.name for path in home.models.iterdir() if path != home.downloads}


async def test_a_model_comes_is_checked_and_answers(worker: Worker, home: Home) -> None:
    model = await pull(worker)
    assert (model.name, model.quantization) == ("model", "Q8_0")
    assert (home.models / "model-Q8_0.gguf").read_bytes() == STARTER.read_bytes()
    assert not list(home.downloads.iterdir())
    detail = (await worker.stub.Inspect(pb.InspectRequest(model="model"))).detail
    (known,) = detail.hashes
    assert known.sha256 == hashlib.sha256(STARTER.read_bytes()).hexdigest()
    assert await worker.ask("model", max_tokens=2)


async def test_what_is_there_already_is_not_fetched_again(worker: Worker, hub: FakeHub) -> None:
    await pull(worker)
    hub.requests.clear()
    assert (await pull(worker, "q8_0")).name == "model"
    assert not hub.content_requests


async def test_a_split_model_and_a_checkpoint_come_whole(
    worker: Worker, hub: FakeHub, home: Home, tmp_path: Path
) -> None:
    make(tmp_path / "split-F32.gguf", LINEAGES["llama"], tensors_a_file=8)
    parts = sorted(path for path in list_of(tmp_path) if path.name.startswith("split-"))
    hub.repos["maker/split"] = HubRepo(
        {f"F32/{part.name}": HubFile(part.read_bytes()) for part in parts}
    )
    checkpoint = make_llama(tmp_path / "checkpoint")
    hub.repos["maker/checkpoint"] = HubRepo(
        {
            path.name: HubFile(path.read_bytes(), large=path.suffix == ".safetensors")
            for path in checkpoint.iterdir()
        }
    )
    assert len(parts) > 2
    assert not (await pull(worker, name="maker/split")).HasField("problem")
    assert listed(home) == {part.name for part in parts}
    model = await pull(worker, name="maker/checkpoint")
    assert model.format == types.MODEL_FORMAT_SAFETENSORS
    assert sorted(p.name for p in (home.models / "checkpoint").iterdir()) == sorted(
        path.name for path in checkpoint.iterdir()
    )


async def test_a_damaged_file_is_never_listed(worker: Worker, hub: FakeHub, home: Home) -> None:
    hub.repos[REPO].files["model-Q8_0.gguf"].sha256 = "0" * 64
    error = await refusal(worker)
    assert isinstance(error, HubError)
    assert "came damaged" in error.message
    assert not listed(home)


async def test_a_pull_that_is_stopped_goes_on_where_it_was(
    worker: Worker, hub: FakeHub, home: Home
) -> None:
    content = STARTER.read_bytes()
    going = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(sent: int) -> None:
        if sent >= len(content) // 2:
            loop.call_soon_threadsafe(going.set)
            released.wait(20)

    released = threading.Event()
    hub.trouble = Trouble(slowly=hold)
    asked = asyncio.create_task(refusal(worker))
    await going.wait()
    assert not listed(home)
    state = await worker.state()
    assert [download.repository for download in state.downloads] == [REPO]
    await worker.stub.StopPull(pb.StopPullRequest(repository=REPO))
    released.set()
    assert "was stopped" in (await asked).message
    assert not listed(home)
    assert not (await worker.state()).downloads
    hub.trouble = Trouble()
    assert (await pull(worker)).name == "model"


async def test_a_pull_is_stopped_by_what_was_chosen_too(worker: Worker, hub: FakeHub) -> None:
    released = threading.Event()
    hub.trouble = Trouble(slowly=lambda sent: released.wait(20))
    call = worker.stub.Pull(pb.PullRequest(repository=REPO))
    async for response in call:
        if response.download.variant == "Q8_0":
            break  # it is chosen by now
    await worker.stub.StopPull(pb.StopPullRequest(repository=REPO, variant="Q8_0"))
    released.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [response async for response in call]
    assert "was stopped" in from_rpc(caught.value, "the worker").message


async def test_who_leaves_does_not_end_a_pull_and_another_follows_it(
    worker: Worker, hub: FakeHub
) -> None:
    released = threading.Event()
    hub.trouble = Trouble(slowly=lambda sent: released.wait(20))
    call = worker.stub.Pull(pb.PullRequest(repository=REPO))
    await call.read()
    call.cancel()
    follower = asyncio.create_task(pull(worker))
    released.set()
    assert (await follower).name == "model"
    assert len(hub.content_requests) == 1


async def test_a_gated_repository_asks_for_a_token_and_takes_it(
    worker: Worker, hub: FakeHub, home: Home
) -> None:
    hub.repos[REPO].token = "secret"
    hub.repos[REPO].gated = True
    error = await refusal(worker)
    assert "is gated: its terms must be accepted first" in error.message
    assert "potluck login" in error.message
    home.hub_token.write_text("of somebody else\n")
    assert "your token is not enough. Accept its terms" in (await refusal(worker)).message
    hub.revoked = "of somebody else"
    assert "it is wrong or was revoked" in (await refusal(worker)).message
    home.hub_token.write_text("secret\n")
    assert (await pull(worker)).name == "model"


async def test_a_private_repository_is_as_one_that_is_not_there_until_a_token_shows_it(
    worker: Worker, hub: FakeHub, home: Home
) -> None:
    hub.repos[REPO].token, hub.repos[REPO].private = "secret", True
    hidden, absent = await refusal(worker), await refusal(worker, name="maker/none")
    assert hidden.message.replace(REPO, "maker/none") == absent.message
    assert "maker/none is not at the hub, or it is private." in absent.message
    home.hub_token.write_text("secret\n")
    assert "maker/none is not at the hub" in (await refusal(worker, name="maker/none")).message
    assert (await pull(worker)).name == "model"


async def test_what_is_no_repository_or_is_not_in_one_is_said(worker: Worker) -> None:
    assert isinstance(await refusal(worker, name="../../etc"), BadRequest)
    assert "It has: Q8_0" in (await refusal(worker, "Q2_K")).message


async def test_another_file_of_the_same_name_is_not_overwritten(worker: Worker, home: Home) -> None:
    (home.models / "model-Q8_0.gguf").write_bytes(b"mine")
    assert "with other content" in (await refusal(worker)).message
    assert (home.models / "model-Q8_0.gguf").read_bytes() == b"mine"


async def test_what_does_not_fit_on_the_disk_is_not_begun(worker: Worker, hub: FakeHub) -> None:
    huge = HubFile(b"")
    hub.repos[REPO].files["huge-Q8_0.gguf"] = huge
    described = hub.describe

    def claim(name: str) -> dict[str, object]:
        told = described(name)
        for sibling in told["siblings"]:
            if sibling["rfilename"].startswith("huge"):
                sibling["size"] = sibling["lfs"]["size"] = 2**50
        return told

    hub.describe = claim  # type: ignore[method-assign]
    error = await refusal(worker, "huge-Q8_0.gguf")
    assert isinstance(error, DiskFull)
    assert "1048576.5 GiB" in error.message
    assert not hub.content_requests


async def test_without_a_network_all_that_is_local_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    async with running(home) as worker:
        error = await refusal(worker)
        assert isinstance(error, HubUnreachable)
        assert "cannot be reached" in error.message
        assert await worker.ask("potluck-starter", max_tokens=2)


async def test_a_hub_that_never_answers_is_given_up_and_all_that_is_local_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "ANSWER_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with running(home) as worker:
            asked = (
                worker.stub.SearchHub(pb.SearchHubRequest(query="qwen")),
                worker.stub.ListHub(pb.ListHubRequest(repository=REPO)),
                pull(worker),
            )
            failing = asyncio.gather(*asked, return_exceptions=True)
            assert await worker.ask("potluck-starter", max_tokens=2)
            for failure in await failing:
                assert isinstance(failure, grpc.aio.AioRpcError)
                error = from_rpc(failure, "the worker")
                assert isinstance(error, HubUnreachable)
                assert "no answer within 3 seconds. Check the network" in error.message
            assert not (await worker.state()).downloads


async def test_a_search_without_a_network_is_given_up_at_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    monkeypatch.setattr(pulls, "ANSWER_SECONDS", 60.0)
    async with running(home) as worker:
        call = worker.stub.SearchHub(pb.SearchHubRequest(query="qwen"), timeout=15)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = from_rpc(caught.value, "the worker")
        assert isinstance(error, HubUnreachable)
        assert "localhost:9 cannot be reached for a search for 'qwen'" in error.message


async def test_a_worker_without_the_library_says_what_to_install(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    async with running(home) as worker:
        assert "potluck[hub]" in (await refusal(worker)).message


async def test_the_hub_is_searched_and_listed_with_what_fits(
    worker: Worker, hub: FakeHub, home: Home
) -> None:
    hub.repos[REPO].tags += ["base_model:maker/Base", "base_model:quantized:maker/Base"]
    found = (await worker.stub.SearchHub(pb.SearchHubRequest(query="model"))).repositories
    (repository,) = found
    assert repository.name == REPO
    assert repository.parameter_count == 2_200_000
    assert repository.licence.commercial_use == types.COMMERCIAL_USE_YES
    assert repository.base_models == ["maker/Base"]
    assert repository.quantizations == ["Q8_0"]
    assert repository.memory_needed_bytes == int(int(2_200_000 * 4.9 / 8) * 1.1) + 2**29
    response = await worker.stub.ListHub(pb.ListHubRequest(repository=REPO))
    (variant,) = response.variants
    assert variant.name == "Q8_0"
    assert variant.memory_needed_bytes > STARTER.stat().st_size
    assert not variant.present
    assert 8 < variant.bits_per_weight < 10
    shutil.copy(STARTER, home.models / "model-Q8_0.gguf")
    response = await worker.stub.ListHub(pb.ListHubRequest(repository=REPO))
    assert response.variants[0].present
