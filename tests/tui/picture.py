"""Make the picture of the README: `PYTHONPATH=tests python tests/tui/picture.py`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from potluck_proto.home import Home
from tui import samples
from tui.fake_scheduler import Reply
from tui.stage import make_stage, staged, type_text, until

PICTURE = Path(__file__).parents[2] / "docs" / "screenshot.svg"
SIZE = (100, 30)
QUESTION = "Which models fit into the 16 GB of the studio?"
REASON = "studio: in memory, 1 of 4 slots busy"
OTHERS = (
    "Backups with restic",
    "Names for a cat",
    "Haiku about the attic",
    "Rust or Go for a router?",
    "Bread with little yeast",
)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        app = make_stage(Path(folder), Home(Path(folder)))
        app.scheduler.pool = samples.house()
        for number, title in enumerate(OTHERS):
            app.scheduler.add_chat(title, title, ("q", "a"), age_seconds=90_000 + number)
        answer = samples.ANSWER.split("\n\nTo see")[0]
        app.scheduler.replies.append(Reply(samples.pieces(answer), reason=REASON))
        async with staged(app, SIZE) as pilot:
            await type_text(pilot, QUESTION)
            await pilot.press("enter")
            await until(pilot, lambda: app.shows("tokens/s"))
            await until(pilot, lambda: len(app.session.library.chats) == len(OTHERS) + 1)
            await until(pilot, lambda: not app.session.library.chats[0].active)
            await pilot.pause()
            PICTURE.write_text(app.export_screenshot(title="Potluck"))


if __name__ == "__main__":
    asyncio.run(main())
