"""Pictures of every screen at the design size and at a large one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from textual.pilot import Pilot

from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2
from tui import samples
from tui.fake_scheduler import Reply
from tui.stage import LARGE, SMALL, StagedApp, make_stage, type_text, until

Compare = Callable[..., bool]
Stage = Callable[[Pilot[None]], Awaitable[None]]

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x50"])
FAILED = types_pb2.End(
    reason=types_pb2.END_REASON_FAILED,
    error=types_pb2.Error(
        message="studio fell silent for 2.5 s after 12 tokens, and no other node has the model.",
        retryable=True,
    ),
)


def staged_app(pilot: Pilot[None]) -> StagedApp:
    return cast("StagedApp", pilot.app)


async def connected(pilot: Pilot[None]) -> StagedApp:
    app = staged_app(pilot)
    await until(pilot, lambda: app.session.connected is True)
    return app


async def ask(pilot: Pilot[None], words: str, shown: str) -> None:
    app = await connected(pilot)
    await type_text(pilot, words)
    await pilot.press("enter")
    await until(pilot, lambda: not app.session.conversation.under_way and app.shows(shown))
    await until(pilot, lambda: len(app.session.library.chats) > 0)
    await until(pilot, lambda: not app.session.library.chats[0].active)


def add_chats(app: StagedApp) -> None:
    app.scheduler.add_chat("old-1", "Names for a cat", ("q", "a"), age_seconds=90_000)
    app.scheduler.add_chat("old-2", "Backups with restic", ("q", "a"), age_seconds=95_000)


@SIZES
def test_welcome(short_tmp: Path, snap_compare: Compare, size: tuple[int, int]) -> None:
    app = make_stage(short_tmp, Home(Path("/home/ada/.local/share/potluck")))
    app.scheduler.pool = samples.first_start()

    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await until(pilot, lambda: app.shows("starter model answers"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_answer(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    add_chats(app)
    app.scheduler.replies.append(Reply(samples.pieces(samples.ANSWER)))

    async def stage(pilot: Pilot[None]) -> None:
        await ask(pilot, "What fits into 16 GB?", "tokens/s")

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_error(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    app.scheduler.replies.append(Reply(["It starts well,"], end=FAILED))

    async def stage(pilot: Pilot[None]) -> None:
        await ask(pilot, "Tell me a story", "Trying again")

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_picker(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: app.shows("pool's default"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_logs(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    app.scheduler.logs |= {"llama-3.1-8b-instruct:Q4_K_M": samples.log(80)}

    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await pilot.press("f4", "down", "down", "down", "l")
        await until(pilot, lambda: app.shows("Nothing is in this log yet"))
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("line 80"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_help(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await pilot.press("f1")
        await until(pilot, lambda: app.shows("Keys: chat"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


def test_drawer(app: StagedApp, snap_compare: Compare) -> None:
    add_chats(app)

    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await until(pilot, lambda: len(app.session.library.chats) == 2)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: app.shows("Names for a cat"))

    assert snap_compare(app, terminal_size=SMALL, run_before=stage)
