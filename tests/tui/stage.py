"""A terminal on a fake pool, for tests: start it, wait for conditions, look at it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual import events
from textual.pilot import Pilot

from potluck_proto.home import Home
from potluck_tui.app import PotluckApp
from potluck_tui.client import PoolClient
from potluck_tui.preferences import Read
from potluck_tui.terminal_profile import TerminalProfile
from potluck_tui.widgets.prompt import Prompt
from potluck_tui.widgets.transcript import Transcript
from tui.fake_scheduler import FakeScheduler

LIMIT_SECONDS = 15.0
SMALL = (80, 24)
LARGE = (200, 50)


class Screened(PotluckApp):
    """An app whose screen a test looks at."""

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        """Return a picture that refers to nothing outside itself: any monospaced font will do."""
        picture = super().export_screenshot(title=title, simplify=simplify)
        return re.sub(r"\s*(@font-face \{.*?\}|<!--.*?-->)", "", picture, flags=re.DOTALL)

    @property
    def prompt(self) -> Prompt:
        return self.screen_stack[0].query_one(Prompt)

    @property
    def transcript(self) -> Transcript:
        return self.screen_stack[0].query_one(Transcript)

    def rows(self) -> list[str]:
        """Return the rows of the screen as text."""
        strips = self.screen._compositor.render_strips()
        return [strip.text.rstrip() for strip in strips]

    def shows(self, text: str) -> bool:
        """Say whether a text is on the screen."""
        return any(text in row for row in self.rows())


class StagedApp(Screened):
    """The app with its own fake scheduler, started and ended with it."""

    def __init__(
        self,
        scheduler: FakeScheduler,
        home: Home,
        *,
        profile: TerminalProfile,
        preferences: Read | None = None,
    ) -> None:
        super().__init__(
            PoolClient(scheduler.address),
            home,
            profile,
            now_unix_seconds=lambda: scheduler.now,
            preferences=preferences,
        )
        self.scheduler = scheduler

    async def on_load(self) -> None:
        await self.scheduler.start()

    async def on_unmount(self) -> None:
        await super().on_unmount()
        await self.scheduler.close()


@asynccontextmanager
async def staged(app: StagedApp, size: tuple[int, int] = SMALL) -> AsyncIterator[Pilot[None]]:
    """Run an app until its pool has been seen."""
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.session.connected is True)
        yield pilot


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; a failure shows the screen."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            app = pilot.app
            screen = "\n".join(app.rows()) if isinstance(app, Screened) else ""
            raise AssertionError(f"It did not happen. The screen:\n{screen}")
        await pilot.pause()
        await asyncio.sleep(0.005)


async def type_text(pilot: Pilot[None], text: str) -> None:
    """Press the keys of a text."""
    names = {" ": "space", "?": "question_mark", "!": "exclamation_mark", ".": "full_stop"}
    await pilot.press(*(names.get(character, character) for character in text))


def type_at_once(app: PotluckApp, *keys: str) -> None:
    """Press keys as a slow link delivers them: all of them before the first one acts."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))


def make_stage(
    folder: Path,
    home: Home | None = None,
    *,
    ssh: bool = False,
    profile: TerminalProfile | None = None,
    preferences: Read | None = None,
) -> StagedApp:
    """Return an app and its scheduler.

    Args:
        folder: Where the scheduler listens.
        home: The app's home; the folder if it is not given.
        ssh: Whether the terminal is at the other end of an ssh connection.
        profile: What the app is told of its terminal beside that.
        preferences: What the reader has chosen.
    """
    socket = Home(folder).scheduler_socket
    return StagedApp(
        FakeScheduler(socket),
        home or Home(folder),
        profile=profile or TerminalProfile(ssh=ssh),
        preferences=preferences,
    )
