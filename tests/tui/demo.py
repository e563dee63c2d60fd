"""Try the terminal on a fake pool: `python tests/tui/demo.py` in a real terminal."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from potluck_proto.home import Home
from potluck_tui import terminal_profile

PROFILE = terminal_profile.detect(os.environ)
terminal_profile.apply(PROFILE)

from potluck_tui.app import PotluckApp  # noqa: E402 - reads the environment
from potluck_tui.client import PoolClient  # noqa: E402
from tui import samples  # noqa: E402
from tui.fake_scheduler import FakeScheduler, Reply  # noqa: E402


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        home = Home(Path(folder))
        scheduler = FakeScheduler(home.scheduler_socket)
        scheduler.pool = samples.house()
        scheduler.add_chat("old", "What fits into 16 GB?", ("What fits?", samples.ANSWER))
        seconds = float(os.environ.get("DEMO_SECONDS_BETWEEN", "0.01"))
        scheduler.replies.extend(
            Reply(samples.pieces(samples.ANSWER * 2), seconds_between=seconds) for _ in range(20)
        )
        await scheduler.start()
        app = PotluckApp(PoolClient(scheduler.address), home, PROFILE)
        await app.run_async(mouse=PROFILE.mouse)
        await scheduler.close()


if __name__ == "__main__":
    asyncio.run(main())
