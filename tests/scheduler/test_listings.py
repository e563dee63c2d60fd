"""What commands say where there is little to list."""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fakes.worker import Context, FakeWorker
from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
from potluck_proto.identity import Role
from potluck_proto.v1 import scheduler_pb2 as scheduler
from potluck_proto.v1 import worker_pb2 as pb
from potluck_tui.cli import build_parser
from potluck_tui.commands.chats import chats
from potluck_tui.commands.daemons import status, up
from potluck_tui.commands.pool import nodes
from potluck_tui.commands.removal import prune
from potluck_tui.joining import remember_address
from scheduler.conftest import Pool

Command = Callable[[argparse.Namespace, Home], Awaitable[int]]


@pytest.fixture
def home(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a pool whose daemons run."""
    started = time.time() - 200
    instance = {"process_id": 7, "version": "1", "started_unix_seconds": started}
    for place in ("launch", "commands.daemons"):
        monkeypatch.setattr(f"potluck_tui.{place}.running_instance", lambda home, name: instance)
    return pool.home


class Tidy(FakeWorker):
    async def Prune(self, request: pb.PruneRequest, context: Context) -> pb.PruneResponse:
        return pb.PruneResponse()


@pytest.mark.parametrize(
    ("command", "words", "code", "said"),
    [
        (chats, ["chats"], 0, "There is no chat yet. `potluck` opens the first."),
        (chats, ["chats", "--deleted"], 0, "No chat is deleted."),
        (chats, ["chats", "bread"], 1, "No chat has all of these words."),
        (prune, ["prune"], 0, "attic: nothing that nobody needs"),
        (status, ["status"], 0, "scheduler: runs as process 7 for 3 min, version 1"),
        (status, ["status"], 0, "pool: 1 node ready, 0 chats, 0 answers under way, 0 viewers"),
    ],
)
async def test_nothing_to_list_is_a_sentence(
    pool: Pool,
    home: Home,
    capsys: pytest.CaptureFixture[str],
    command: Command,
    words: list[str],
    code: int,
    said: str,
) -> None:
    await pool.add(Tidy("a", "attic"))
    assert await command(build_parser().parse_args(words), home) == code
    printed = capsys.readouterr()
    assert said in (printed.out + printed.err).splitlines()


async def test_a_machine_that_was_never_seen_has_no_memory_to_show(
    pool: Pool, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    await pool.add(Tidy("a", "attic"))
    request = scheduler.AddNodeRequest(address="127.0.0.1:1")
    await pool.client.call(pool.client.stub.AddNode, request)
    assert await nodes(build_parser().parse_args(["nodes"]), home) == 0
    row = next(row for row in capsys.readouterr().out.splitlines() if row.endswith("127.0.0.1:1"))
    assert "GiB" not in row


async def test_a_pool_without_machines_lists_none_and_says_how_to_have_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("potluck_tui.commands.pool.LOOK_SECONDS", 0.05)
    assert await nodes(build_parser().parse_args(["nodes"]), home) == 0
    printed = capsys.readouterr()
    assert printed.err == "No machine has joined. `potluck up` starts a worker on this one.\n"
    assert not printed.out


async def test_a_client_is_told_that_what_runs_here_is_not_its_pool(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.identity_file(Role.CLIENT).touch()
    remember_address(home, "192.0.2.7:7420")
    assert await status(build_parser().parse_args(["status"]), home) == 0
    said = "client of the pool at 192.0.2.7:7420; what runs here is another"
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--idle-exit", "-1"], "--idle-exit cannot be -1"),
        (["--listen", "attic:many"], "'attic:many' is not an address"),
    ],
)
async def test_what_cannot_be_started_so_is_refused_first(
    short_tmp: Path, words: list[str], said: str
) -> None:
    with pytest.raises(PotluckError, match=said):
        await up(build_parser().parse_args(["up", *words]), Home(short_tmp / "a" / "b"))
    assert _is_empty(short_tmp)


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())
