"""Try the terminal on a fake pool: `PYTHONPATH=tests python tests/tui/demo.py`.

With a folder as its argument, the terminal alone, on a scheduler that listens there.
"""

from __future__ import annotations

import asyncio
import os
import sys
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


async def run_terminal(home: Home) -> None:
    app = PotluckApp(PoolClient(f"unix:{home.scheduler_socket}"), home, PROFILE)
    await app.run_async(mouse=PROFILE.mouse)


async def run_both(home: Home) -> None:
    scheduler = FakeScheduler(home.scheduler_socket)
    scheduler.pool = samples.house()
    scheduler.add_chat("old", "What fits into 16 GB?", ("What fits?", samples.ANSWER))
    pieces = samples.pieces(samples.ANSWER * 2)
    scheduler.replies.extend(Reply(pieces, seconds_between=0.01) for _ in range(20))
    await scheduler.start()
    await run_terminal(home)
    await scheduler.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(run_terminal(Home(Path(sys.argv[1]))))
    else:
        with tempfile.TemporaryDirectory(prefix="pl-") as folder:
            asyncio.run(run_both(Home(Path(folder))))
