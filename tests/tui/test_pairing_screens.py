from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from tui.stage import StagedApp, staged, until
from tui.test_screens import SIZES, Compare, connected


@SIZES
def test_invite(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await pilot.press("f4", "i", "w")
        await until(pilot, lambda: app.shows("potluck1/worker/"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


async def test_the_line_of_an_invitation_is_copied_and_put_into_no_file(
    app: StagedApp, short_tmp: Path
) -> None:
    async with staged(app) as pilot:
        await connected(pilot)
        await pilot.press("f4", "i", "y")
        assert not app.clipboard
        await pilot.press("w")
        await until(pilot, lambda: app.shows("potluck1/worker/"))
        await pilot.press("y")
        await until(pilot, lambda: app.shows("Copied to the terminal's clipboard"))
        assert app.clipboard.startswith("potluck1/worker/")
    assert not _files_with(b"potluck1", short_tmp)


def _files_with(words: bytes, folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return [file for file in files if words in file.read_bytes()]


@SIZES
def test_join(app: StagedApp, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await connected(pilot)
        await pilot.press("f4", "J", *"potluck1", "enter")
        await until(pilot, lambda: app.shows("no line of `potluck invite`"))
        await pilot.press(*"secret")

    assert snap_compare(app, terminal_size=size, run_before=stage)
