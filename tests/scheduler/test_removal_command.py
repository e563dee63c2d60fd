from __future__ import annotations

import argparse
import io

import pytest

from fakes.worker import Context, FakeWorker, describe
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_tui.commands.removal import prune, remove
from scheduler.conftest import Pool


class Typed(io.StringIO):
    """Somebody at a terminal who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def home(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a pool whose daemons run."""
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    return pool.home


def options(**more: object) -> argparse.Namespace:
    known = {"model": "echo", "node": "", "dry_run": False, "yes": False, "json": False, "ssh": ""}
    return argparse.Namespace(**(known | more))


@pytest.mark.parametrize(("typed", "deleted"), [("y\n", True), ("\n", False)])
async def test_a_model_is_deleted_when_somebody_agrees(
    pool: Pool,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    deleted: bool,
) -> None:
    worker = await pool.add(FakeWorker("a", "attic", models=[describe("echo", "Q8_0")]))
    monkeypatch.setattr("sys.stdin", Typed(typed))
    assert await remove(options(), home) == (0 if deleted else 1)
    assert [asked.dry_run for asked in worker.removed] == ([True, False] if deleted else [True])
    printed = capsys.readouterr().out
    assert "attic: /models/echo.gguf" in printed
    assert ("deleted; that freed 1.0 GiB" in printed) == deleted


class Forgetful(FakeWorker):
    async def Remove(self, request: pb.RemoveRequest, context: Context) -> pb.RemoveResponse:
        return pb.RemoveResponse(removals=[types.Removal(path="/data/m.gguf", forgotten=True)])


async def test_what_was_added_is_forgotten_and_nobody_reads_of_deleting(
    pool: Pool,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await pool.add(Forgetful("a", "attic"))
    monkeypatch.setattr("sys.stdin", Typed("y\n"))
    assert await remove(options(), home) == 0
    printed = capsys.readouterr().out
    assert "Forget it? [y/N]" in printed
    assert "attic: forgotten; nothing is deleted" in printed
    assert "freed" not in printed


async def test_without_a_terminal_nothing_is_deleted_unless_it_was_said(
    pool: Pool, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await pool.add(FakeWorker("a", "attic"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert await remove(options(), home) == 1
    assert await remove(options(yes=True), home) == 0
    assert await remove(options(dry_run=True), home) == 0
    assert [asked.dry_run for asked in worker.removed] == [True, True, False, True]


async def test_what_would_be_pruned_is_said_with_how_to_do_it(
    pool: Pool, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    await pool.add(FakeWorker("a", "attic"))
    assert await prune(options(), home) == 0
    printed = capsys.readouterr().out
    assert "1 would be deleted; that would free 1.0 GiB" in printed
    assert "potluck prune --yes" in printed
    await prune(options(yes=True), home)
    assert "1 deleted; that freed 1.0 GiB" in capsys.readouterr().out
