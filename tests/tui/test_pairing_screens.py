from __future__ import annotations

from textual.pilot import Pilot

from tui.stage import StagedApp, until
from tui.test_screens import SIZES, Compare, connected


@SIZES
def test_invite(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await pilot.press("f4", "i", "w")
        await until(pilot, lambda: app.shows("potluck1/worker/"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_join(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await pilot.press("f4", "J", *"potluck1", "enter")
        await until(pilot, lambda: app.shows("no line of `potluck invite`"))
        await pilot.press(*"secret")

    assert snap_compare(app, terminal_size=size, run_before=stage)
