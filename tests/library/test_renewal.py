from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fakes.hub import FakeHub, HubFile, HubRepo
from potluck_proto.home import Home
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.catalogue import RENEWED_NAME, Catalogue
from potluck_tui.client import PoolClient
from potluck_tui.commands.recommend import recommend
from scheduler.conftest import Pool, start
from worker.conftest import running

ROW = """
[[model]]
name = "{name}"
repository = "maker/{name}-GGUF"
parameters = 1_000_000_000
context_length = 4096
layers = 16
kv_width = 512
licence = "mit"
uses = ["chat"]
source = "https://hub.example/{name}"
date = "2026-01-01"
"""
OPTIONS = argparse.Namespace(
    context=None, use=None, node="", ssh="", json=False, limit=9, refresh=True
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that has one of the catalogue's models, grown and under another licence."""
    with FakeHub() as hub:
        files = {"There-Q8_0.gguf": HubFile(b"GGUF" * 1000), "There-Q4_K_M.gguf": HubFile(b"GGUF")}
        tags = ["gguf", "license:apache-2.0"]
        hub.repos["maker/There-GGUF"] = HubRepo(files, tags, 2_000_000_000, downloads=77)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


@pytest.fixture
async def pool(
    hub: FakeHub, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pool]:
    """A pool with a catalogue of two rows, and a worker that speaks to the hub."""
    home = Home(short_tmp)
    home.prepare()
    rows = ROW.format(name="There") + ROW.format(name="Gone")
    (home.root / "catalogue.toml").write_text(f'date = "2026-01-01"\n{rows}')
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    async with running(home):
        pool = Pool(home, PoolClient(unix_address(home.scheduler_socket)), await start(home))
        try:
            await pool.until(lambda nodes: any(n.health == pb.NODE_HEALTH_READY for n in nodes))
            yield pool
        finally:
            await pool.client.close()
            await pool.daemon.stop()


async def test_what_the_hub_says_is_renewed_and_the_rest_stays(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await recommend(OPTIONS, pool.home) == 0
    said = capsys.readouterr().err
    assert "Renewed from the hub: 1 row." in said
    assert "As they were: maker/Gone-GGUF. It is not at the hub, or it is private." in said
    there, gone = Catalogue.read(pool.home).rows
    assert (there.parameters, there.licence, there.downloads) == (2 * 10**9, "apache-2.0", 77)
    assert there.sizes == {"Q8_0": 4000, "Q4_K_M": 4}
    assert there.date > gone.date == "2026-01-01"
    assert (gone.parameters, gone.licence, gone.sizes) == (10**9, "mit", {})
    response = await pool.client.call(pool.client.stub.Recommend, pb.RecommendRequest())
    found = {row.name: row for row in response.recommendations}
    assert (found["There"].file_bytes, found["There"].downloads) == (4000, 77)


async def test_a_hub_that_is_away_changes_nothing_and_is_said_once(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await recommend(OPTIONS, pool.home)
    before = Catalogue.read(pool.home).rows
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    capsys.readouterr()
    assert await recommend(OPTIONS, pool.home) == 0
    said = capsys.readouterr().err
    assert "Renewed from the hub: 0 rows." in said
    assert "and 1 more. The hub at " in said
    assert Catalogue.read(pool.home).rows == before


async def test_what_is_kept_and_damaged_is_passed_over(pool: Pool) -> None:
    (pool.home.root / RENEWED_NAME).write_text("{]")
    there, _ = Catalogue.read(pool.home).rows
    assert (there.licence, there.downloads) == ("mit", 0)
