from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from checkpoints import make_llama
from engines.driving import STARTER
from fakes.hub import FakeHub, HubFile, HubRepo
from library.caches import ollama
from lineages.kinds import LINEAGES
from lineages.make import make
from potluck_proto import network
from potluck_proto.errors import (
    BadRequest,
    DiskFull,
    HubError,
    HubUnreachable,
    LostError,
    ModelFileError,
    PotluckError,
)
from potluck_proto.home import Home
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_tui.client import PoolClient
from potluck_tui.commands.hub import copy as copy_command
from potluck_tui.commands.hub import pull as pull_command
from potluck_worker.daemon import WorkerDaemon
from potluck_worker.library.hashes import Hashes
from potluck_worker.library.neighbour import Offer, Offered, Receiver
from potluck_worker.library.removal import leftovers
from potluck_worker.settings import WorkerSettings
from potluck_worker.stored_model import StoredModel
from scheduler.conftest import Pool, start
from worker.conftest import Worker
from worker.stores import store


@dataclass
class Two:
    """A pool of two real workers; the attic has models."""

    pool: Pool
    attic: Worker
    cellar: Worker

    async def copy(self, model: str, to: str = "cellar", **more: str) -> list[pb.CopyModelResponse]:
        """Copy a model once the scheduler knows of it; return all that is said."""
        name = model.partition(":")[0]
        await self.pool.until(
            lambda nodes: any(m.name == name for node in nodes for m in node.state.models)
        )
        request = pb.CopyModelRequest(model=model, to_node=to, **more)
        return [response async for response in self.pool.client.copy(request)]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    return user


@pytest.fixture
def homes() -> Iterator[list[Home]]:
    folders = [Path(tempfile.mkdtemp(prefix="pl-")) for _ in range(3)]
    homes = [Home(folder) for folder in folders]
    for home in homes:
        home.prepare()
    yield homes
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def serving(home: Home, settings: WorkerSettings) -> AsyncIterator[Worker]:
    """Run a worker beside another in this process."""
    daemon = WorkerDaemon(home, settings)
    await daemon.start()
    try:
        async with network.dial(daemon.addresses[0]) as channel:
            yield Worker(home, daemon, pb_grpc.WorkerServiceStub(channel))
    finally:
        await daemon.stop()


@pytest.fixture
async def two(homes: list[Home], user: Path) -> AsyncIterator[Two]:
    shutil.copy(STARTER, homes[0].models / "single-Q8_0.gguf")
    make(homes[0].models / "split-F32.gguf", LINEAGES["llama"], tensors_a_file=8)
    make_llama(homes[0].models / "checkpoint")
    ollama(user, "theirs")
    attic_settings = WorkerSettings(name="attic", use_caches=True)
    async with (
        serving(homes[0], attic_settings) as attic,
        serving(homes[1], WorkerSettings(name="cellar")) as cellar,
    ):
        pool = Pool(
            homes[2], PoolClient(unix_address(homes[2].scheduler_socket)), await start(homes[2])
        )
        for worker in (attic, cellar):
            request = pb.AddNodeRequest(address=worker.daemon.addresses[0])
            await pool.client.call(pool.client.stub.AddNode, request)
        yield Two(pool, attic, cellar)
        await pool.client.close()
        await pool.daemon.stop()


async def test_a_model_is_copied_checked_listed_and_answers(two: Two) -> None:
    responses = await two.copy("single")
    model = responses[-1].model
    assert (model.name, model.quantization) == ("single", "Q8_0")
    assert (responses[-1].from_node, responses[-1].to_node) == ("attic", "cellar")
    copied = two.cellar.home.models / "single-Q8_0.gguf"
    assert copied.read_bytes() == STARTER.read_bytes()
    assert not list(two.cellar.home.downloads.iterdir())
    assert await two.cellar.ask("single", max_tokens=2)
    await two.pool.until(
        lambda nodes: sum(m.name == "single" for n in nodes for m in n.state.models) == 2
    )
    with pytest.raises(BadRequest, match="cellar has single:Q8_0 already"):
        await two.copy("single")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, user: Path) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.repos["maker/Single-GGUF"] = HubRepo(
            {"Q8/renamed-Q8_0.gguf": HubFile(STARTER.read_bytes())}
        )
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(user / "hf"))
        yield hub


async def pulled(
    two: Two,
    capsys: pytest.CaptureFixture[str],
    repository: str = "maker/Single-GGUF",
    **more: object,
) -> str:
    """Return what the command prints that brings a model to the cellar, or elsewhere."""
    await two.pool.until(
        lambda nodes: any(m.name == "theirs" for node in nodes for m in node.state.models)
    )
    known = {"repository": repository, "node": "cellar", "json": False, "ssh": ""}
    assert await pull_command(argparse.Namespace(**(known | more)), two.pool.home) == 0
    return capsys.readouterr().out


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})


@pytest.mark.usefixtures("running")
async def test_what_a_neighbour_has_is_not_fetched_from_the_hub(
    hub: FakeHub, two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await pulled(two, capsys)
    assert "renamed:Q8_0 is on cellar, copied from attic instead of fetched." in printed
    assert (two.cellar.home.models / "renamed-Q8_0.gguf").read_bytes() == STARTER.read_bytes()
    assert not hub.content_requests
    hub.requests.clear()
    assert "renamed:Q8_0 is on cellar.\n" in await pulled(two, capsys)


@pytest.mark.usefixtures("running")
async def test_what_the_machine_has_itself_under_another_name_is_neither_fetched_nor_copied(
    hub: FakeHub, two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    (two.attic.home.models / "single-Q8_0.gguf").unlink()  # Ollama's is the same
    await two.attic.daemon.store.scan()
    printed = await pulled(two, capsys, node="attic")
    assert (
        printed
        == "theirs:Q8_0 is on attic already: its files are those of the hub, by their hashes.\n"
    )
    assert not hub.content_requests
    assert not (two.attic.home.models / "renamed-Q8_0.gguf").exists()


@pytest.mark.usefixtures("running")
async def test_what_a_neighbour_reads_and_sends_is_followed_and_stopped(
    hub: FakeHub, two: Two, capsys: pytest.CaptureFixture[str], held: asyncio.Event
) -> None:
    pulling = asyncio.create_task(pulled(two, capsys, json=True))
    call, stub = two.pool.client.call, two.pool.client.stub

    async def coming() -> list[types.Download]:
        nodes = (await call(stub.ListNodes, pb.ListNodesRequest())).nodes
        return [d for node in nodes if node.state.name == "cellar" for d in node.state.downloads]

    while not any(download.done_bytes == 1000 for download in await coming()):
        assert not pulling.done()
        await asyncio.sleep(0.02)
    (download,) = await coming()
    assert (download.repository, download.from_node) == ("maker/Single-GGUF", "attic")
    request = pb.StopPullModelRequest(repository="maker/single-gguf", node="cellar")
    await call(stub.StopPullModel, request)
    held.set()
    with pytest.raises(HubError, match="copy of maker/Single-GGUF was stopped"):
        await pulling
    assert not await coming()
    steps = [json.loads(line)["download"] for line in capsys.readouterr().out.splitlines()]
    assert steps[0]["hashing"]
    assert steps[0]["total_bytes"] == str(STARTER.stat().st_size)
    assert "hashing" not in steps[-1]


@pytest.mark.usefixtures("running")
async def test_what_is_stopped_while_the_hub_is_asked_is_not_begun(
    hub: FakeHub, two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos["maker/Other-GGUF"] = HubRepo({"other-Q8_0.gguf": HubFile(b"of no other's size")})
    asked, go_on, describe = threading.Event(), threading.Event(), hub.describe

    def held(name: str) -> dict[str, object]:
        asked.set()
        go_on.wait(20)
        return describe(name)

    hub.describe = held  # type: ignore[method-assign]
    pulling = asyncio.create_task(pulled(two, capsys, "maker/Other-GGUF"))
    await asyncio.to_thread(asked.wait, 20)
    request = pb.StopPullModelRequest(repository="maker/Other-GGUF", node="cellar")
    await two.pool.client.call(two.pool.client.stub.StopPullModel, request)
    go_on.set()
    with pytest.raises(HubError, match="was stopped"):
        await pulling
    assert not hub.content_requests


@pytest.mark.usefixtures("running")
async def test_another_file_of_the_same_size_is_fetched(
    hub: FakeHub, two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    other = bytearray(STARTER.read_bytes())
    other[-1] ^= 1
    hub.repos["maker/Single-GGUF"].files["Q8/renamed-Q8_0.gguf"] = HubFile(bytes(other))
    assert "renamed:Q8_0 is on cellar.\n" in await pulled(two, capsys)
    assert hub.content_requests


@pytest.mark.usefixtures("running")
async def test_what_breaks_off_at_the_neighbour_is_fetched(
    hub: FakeHub, two: Two, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(model: StoredModel, name: str, offset: int) -> AsyncIterator[bytes]:
        yield b"x"

    monkeypatch.setattr("potluck_worker.library.service.content", broken)
    assert "renamed:Q8_0 is on cellar.\n" in await pulled(two, capsys)
    assert hub.content_requests


@pytest.mark.usefixtures("running")
async def test_without_a_hub_a_neighbours_model_of_the_name_is_taken_and_that_is_said(
    two: Two, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    printed = await pulled(two, capsys)
    assert "single:Q8_0 is on cellar, copied from attic" in printed
    assert "the same by its name alone" in printed
    with pytest.raises(HubUnreachable):
        await pulled(two, capsys, "maker/unknown")
    printed = await pulled(two, capsys, node="attic")
    assert "single:Q8_0 is on attic already, by its name alone: the hub cannot be" in printed


async def test_parts_and_checkpoints_come_with_all_their_files(two: Two) -> None:
    assert not (await two.copy("split"))[-1].model.HasField("problem")
    model = (await two.copy("checkpoint"))[-1].model
    assert model.format == types.MODEL_FORMAT_SAFETENSORS
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        source = two.attic.home.models / "checkpoint" / name
        assert (two.cellar.home.models / "checkpoint" / name).read_bytes() == source.read_bytes()


async def test_another_programs_model_is_copied_under_a_name_of_its_own(two: Two) -> None:
    await two.copy("theirs")
    assert (two.cellar.home.models / "theirs-Q8_0.gguf").read_bytes() == STARTER.read_bytes()


async def test_what_cannot_be_copied_is_said(two: Two) -> None:
    with pytest.raises(BadRequest, match="cellar has potluck-starter:Q8_0 already"):
        await two.copy("potluck-starter")
    with pytest.raises(BadRequest, match="attic has single:Q8_0 already"):
        await two.copy("single", "attic")
    with pytest.raises(PotluckError, match="No node is called 'roof'"):
        await two.copy("single", "roof")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have what is sent stop after 1,000 bytes until it is set."""
    sending = asyncio.Event()

    async def stalled(model: StoredModel, name: str, offset: int) -> AsyncIterator[bytes]:
        yield STARTER.read_bytes()[:1000]
        await sending.wait()
        yield STARTER.read_bytes()[1000:]

    monkeypatch.setattr("potluck_worker.library.service.content", stalled)
    monkeypatch.setattr("potluck_scheduler.copies.REPORT_SECONDS", 0.0)
    return sending


async def test_a_copy_goes_on_when_whoever_follows_it_leaves(two: Two, held: asyncio.Event) -> None:
    await two.pool.until(
        lambda nodes: any(m.name == "single" for node in nodes for m in node.state.models)
    )
    request = pb.CopyModelRequest(model="single", to_node="cellar")
    async for response in two.pool.client.copy(request):
        if response.download.done_bytes == 1000:
            break
    following = asyncio.create_task(two.copy("single"))
    await two.pool.until(lambda nodes: any(n.state.downloads for n in nodes))
    held.set()
    assert (await following)[-1].model.name == "single"


async def test_a_copy_that_is_interrupted_at_the_keyboard_ends(
    two: Two,
    held: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    await two.pool.until(
        lambda nodes: any(m.name == "single" for node in nodes for m in node.state.models)
    )
    options = argparse.Namespace(model="single", to="cellar", from_node="", json=False, ssh="")
    copying = asyncio.create_task(copy_command(options, two.pool.home))
    await two.pool.until(
        lambda nodes: any(d.done_bytes == 1000 for n in nodes for d in n.state.downloads)
    )
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert "Stopped. What came is kept" in capsys.readouterr().err
    held.set()
    await two.pool.until(lambda nodes: not any(n.state.downloads for n in nodes))
    assert not any(model.name == "single" for model in two.cellar.daemon.store.models)


async def test_the_command_copies(
    two: Two, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    await two.pool.until(
        lambda nodes: any(m.name == "single" for node in nodes for m in node.state.models)
    )
    options = argparse.Namespace(model="single", to="cellar", from_node="", json=False, ssh="")
    assert await copy_command(options, two.pool.home) == 0
    assert "single:Q8_0 is on cellar, copied from attic." in capsys.readouterr().out


# --- the one that takes --------------------------------------------------------------------

CONTENT = bytes(range(256)) * 16


def offered(name: str = "m.gguf", content: bytes = CONTENT, folder: str = "", **more: int) -> Offer:
    size = more.get("size_bytes", len(content))
    return Offer(folder, [Offered(name, hashlib.sha256(content).hexdigest(), size)])


def receiver(home: Home, offer: Offer) -> Receiver:
    return Receiver(home, store(home.models), Hashes(home.root / "hashes.json"), offer)


async def sent(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def take(taker: Receiver, *chunks: bytes) -> list[int]:
    return [wanted.offset async for wanted in taker.take(sent(*chunks))]


@pytest.fixture
def home(short_tmp: Path) -> Home:
    home = Home(short_tmp)
    home.prepare()
    return home


async def test_a_copy_that_broke_goes_on_where_it_was(home: Home) -> None:
    with pytest.raises(LostError, match="broke at 1,000 of 4,096"):
        await take(receiver(home, offered()), CONTENT[:600], CONTENT[600:1000])
    assert [path.name for path in home.models.iterdir()] == [".downloads"]
    assert await take(receiver(home, offered()), CONTENT[1000:]) == [1000]
    assert (home.models / "m.gguf").read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [CONTENT[:-1] + b"x", CONTENT + b"x"])
async def test_what_is_not_what_was_offered_is_not_kept(home: Home, wrong: bytes) -> None:
    with pytest.raises(ModelFileError):
        await take(receiver(home, offered()), wrong)
    assert not (home.models / "m.gguf").exists()
    assert await take(receiver(home, offered()), CONTENT) == [0]


@pytest.mark.parametrize(
    "offer",
    [
        offered("../x.gguf"),
        offered("/x.gguf"),
        offered(".x.gguf"),
        offered(""),
        offered("a\nb.gguf"),
        offered(folder="../x"),
        Offer("", []),
    ],
)
def test_an_offer_with_tricks_is_refused(home: Home, offer: Offer) -> None:
    with pytest.raises(BadRequest):
        receiver(home, offer)
    assert not list(home.models.iterdir())


async def test_a_name_that_is_taken_and_a_full_disk_are_said(home: Home) -> None:
    (home.models / "m.gguf").touch()
    with pytest.raises(BadRequest, match="is there already"):
        receiver(home, offered())
    with pytest.raises(DiskFull, match=r"needs 1048576\.5 GiB"):
        await take(receiver(home, offered("huge.gguf", size_bytes=2**50)))


async def test_the_same_model_comes_once_at_a_time_and_is_not_pruned_meanwhile(home: Home) -> None:
    first = receiver(home, offered()).take(sent(CONTENT))
    assert (await anext(first)).offset == 0
    with pytest.raises(BadRequest, match="on its way here already"):
        await take(receiver(home, offered()), CONTENT)
    assert not leftovers(home, [])
    await first.aclose()
    assert len(leftovers(home, [])) == 1
