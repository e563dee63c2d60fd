from __future__ import annotations

import argparse
import asyncio
import io
import stat
import sys
from dataclasses import replace

import pytest

from fakes.worker import GIB, FakeWorker
from potluck_proto.errors import BadRequest, HubError
from potluck_proto.home import Home
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.core.model import Loaded, ModelKey, Node
from potluck_scheduler.hub import add_fit, is_named_so
from potluck_tui.commands.hub import login, pull, repository_lines, search
from potluck_tui.downloads import DownloadView, progress_line
from potluck_tui.knowledge.quality import quality
from scheduler.conftest import Pool


@pytest.fixture
def home(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a pool whose daemons run."""
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    return pool.home


def options(**more: object) -> argparse.Namespace:
    known = {"repository": "maker/m", "node": "", "json": False, "ssh": "", "limit": 20}
    return argparse.Namespace(**(known | more))


async def test_a_model_goes_to_the_node_with_the_most_memory_or_the_one_named(
    pool: Pool, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    small = await pool.add(FakeWorker("a", "attic", free_bytes=GIB))
    large = await pool.add(FakeWorker("b", "cellar"))
    for worker in (small, large):
        worker.arrived.set()
    assert await pull(options(repository="maker/m:Q8_0"), home) == 0
    assert [(p.repository, p.variant) for p in large.pulled] == [("maker/m", "Q8_0")]
    assert await pull(options(node="attic"), home) == 0
    assert len(small.pulled) == 1
    assert "new:Q8_0 is on cellar." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("node", "needed_gib", "name", "missing_gib", "offloaded"),
    [
        ("", 6, "plain", 0, False),
        ("", 12, "plain", 0, False),
        ("", 15, "plain", 1, False),
        ("cards", 12, "cards", 0, True),
        ("cards", 15, "cards", 2, False),
    ],
)
def test_what_fits_is_said_for_the_best_node(
    node: str, needed_gib: int, name: str, missing_gib: int, offloaded: bool
) -> None:
    cards = Node(
        NodeId("a"),
        "cards",
        loaded=(Loaded(ModelKey("m", ""), memory_bytes=5 * GIB),),
        memory_free_bytes=3 * GIB,
        memory_total_bytes=8 * GIB,
        spill_free_bytes=5 * GIB,
    )
    plain = Node(NodeId("b"), "plain", memory_free_bytes=14 * GIB, memory_total_bytes=16 * GIB)
    resting = replace(plain, name="resting", draining=True)
    variant = types.HubVariant(memory_needed_bytes=needed_gib * GIB)
    nodes = [cards] if node else [cards, plain, resting]
    add_fit(variant, nodes)
    assert (variant.fit.node_name, variant.fit.missing_bytes) == (name, missing_gib * GIB)
    assert variant.fit.partly_offloaded == offloaded


@pytest.mark.parametrize(
    ("repository", "variant", "same"),
    [
        ("maker/Small-GGUF", "", True),
        ("maker/small", "q8_0", True),
        ("other/x", "Q8/small.Q8_0.gguf", True),
        ("maker/small", "Q4_0", False),
        ("maker/other", "", False),
        ("maker/small", "small-Q4_0.gguf", False),
    ],
)
def test_a_model_of_a_neighbour_is_known_by_its_name(
    repository: str, variant: str, same: bool
) -> None:
    request = pb.PullModelRequest(repository=repository, variant=variant)
    assert is_named_so(ModelKey("small", "Q8_0"), request) == same


async def test_a_pull_that_is_interrupted_is_stopped_where_it_runs(pool: Pool, home: Home) -> None:
    worker = await pool.add(FakeWorker("a", "attic"))
    pulling = asyncio.create_task(pull(options(), home))
    await asyncio.to_thread(worker.pulling.wait, 20)
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert [stop.repository for stop in worker.stopped] == ["maker/m"]


async def test_a_failure_on_the_way_is_said_as_it_is(pool: Pool, home: Home) -> None:
    await pool.add(FakeWorker("a", "attic", refusal=HubError("The hub is away.")))
    with pytest.raises(HubError, match="The hub is away"):
        await pull(options(), home)


async def test_words_are_searched_and_a_repository_is_listed(
    pool: Pool, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    await pool.add(FakeWorker("a", "attic"))
    await pool.add(FakeWorker("b", "cellar", free_bytes=GIB))
    assert await search(options(words=["qwen"]), home) == 0
    printed = capsys.readouterr().out
    assert "FITS MY POOL" in printed
    assert "maker/qwen        8.0B        on attic" in printed
    assert "maker/qwen-large  70B         no: 4" in printed
    assert "about, at 4.9 bits a weight" in printed
    assert await search(options(words=["maker/m"]), home) == 0
    printed = capsys.readouterr().out
    assert "FITS MY POOL" in printed
    assert "potluck pull maker/m:VARIANT" in printed


async def test_wishes_narrow_a_search(
    pool: Pool, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    attic = await pool.add(FakeWorker("a", "attic"))
    assert await search(options(words=["qwen", "fits", "quant:q4_k_m"]), home) == 0
    assert (attic.searched[-1].query, attic.searched[-1].limit) == ("qwen", 100)
    printed = capsys.readouterr().out
    assert "maker/qwen " in printed
    assert "qwen-large" not in printed
    assert await search(options(words=["qwen", "licence:commercial"]), home) == 1
    assert "for “qwen licence:commercial”, of the 100 most fetched" in capsys.readouterr().out
    with pytest.raises(BadRequest, match="below:much is no count"):
        await search(options(words=["qwen", "below:much"]), home)


def test_a_list_says_size_quality_and_fit_of_each_variant() -> None:
    response = pb.ListRepositoryResponse(
        repository=types.HubRepository(
            name="maker/m",
            gated=True,
            base_models=["maker/base"],
            licence=types.Licence(id="gemma", commercial_use=types.COMMERCIAL_USE_CONDITIONS),
        ),
        variants=[
            types.HubVariant(
                name="Q8_0",
                size_bytes=8 * GIB,
                bits_per_weight=8.5,
                fit=types.PoolFit(node_name="attic", missing_bytes=3 * GIB // 2),
            ),
            types.HubVariant(
                name="Q4_K_M", size_bytes=5 * GIB, fit=types.PoolFit(node_name="cellar")
            ),
            types.HubVariant(name="Q2_K", size_bytes=3 * GIB, present=True),
        ],
        node_name="attic",
    )
    lines = list(repository_lines(response))
    assert lines[:4] == [
        "maker/m (ask for access first)",
        "  made from maker/base",
        "  licence gemma; commercial use: with conditions",
        "",
    ]
    assert lines[4:8] == [
        "VARIANT  SIZE     BITS  QUALITY        FITS MY POOL",
        "Q8_0     8.0 GiB  8.5   as good        no: 1.5 GiB too large",
        "Q4_K_M   5.0 GiB  ?     good (+2.8%)   on cellar",
        "Q2_K     3.0 GiB  ?     poor (+56.5%)  there: attic",
    ]
    assert max(map(len, lines)) <= 80


def test_progress_is_said_with_speed_and_time_left() -> None:
    download = types.Download(
        repository="maker/m",
        variant="Q8_0",
        done_bytes=GIB,
        total_bytes=4 * GIB,
        bytes_per_second=2**27,
        seconds_left=24,
    )
    assert (
        progress_line(DownloadView.from_proto(download), "attic")
        == "maker/m:Q8_0 to attic, 25% of 4.0 GiB, 128 MiB/s, 24s left"
    )
    download.from_node = "cellar"
    line = progress_line(DownloadView.from_proto(download), "attic")
    assert line.startswith("maker/m:Q8_0 from cellar to attic, 25%")
    download.hashing = True
    line = progress_line(DownloadView.from_proto(download), "attic")
    assert line.startswith("maker/m:Q8_0 to attic: cellar reads its own for the hash, 25%")


async def test_a_token_is_kept_where_nobody_else_can_read_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.setattr("sys.stdin", io.StringIO("hf_secret\n"))
    assert await login(options(), home) == 0
    assert home.hub_token.read_text() == "hf_secret"
    assert stat.S_IMODE(home.hub_token.stat().st_mode) == 0o600
    monkeypatch.setattr("sys.stdin", io.StringIO("bad\x1btoken\n"))
    with pytest.raises(BadRequest):
        await login(options(), home)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert await login(options(), home) == 0
    assert not home.hub_token.exists()


def test_quality_is_by_the_table_or_by_the_bits() -> None:
    assert quality("q4_k_m").perplexity_rise == pytest.approx(0.1754 / 6.23)
    assert quality("BF16").perplexity_rise == 0
    assert quality("IQ3_XXS").perplexity_rise is None
    words = [quality(name).words for name in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")]
    assert words == ["as good", "very good", "good", "worse", "poor"]
    assert quality("strange").words == "not known"
