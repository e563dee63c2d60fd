"""`potluck` in a terminal: start what is missing, then the Textual app."""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

from potluck_proto.errors import SetupError
from potluck_proto.home import Home
from potluck_proto.network import unix_address


def chat(options: argparse.Namespace, home: Home) -> int:
    """Open the terminal UI; return its exit code."""
    from potluck_tui import preferences, terminal_profile

    found = preferences.read(home.settings_file)
    if options.ssh_profile:
        found = found.with_choice(ssh_profile=preferences.Switch.ON)
    if options.read_only:
        found = found.with_choice(read_only=True)
    profile = terminal_profile.detect(os.environ, found.preferences)
    if profile.refusal:
        raise SetupError(profile.refusal)
    terminal_profile.apply(profile)
    asyncio.run(_start(home))
    # Textual reads its environment when it is imported, so it is imported after the profile is set.
    from potluck_tui.app import PotluckApp
    from potluck_tui.client import PoolClient

    client = PoolClient(unix_address(home.scheduler_socket))
    app = PotluckApp(client, home, profile, preferences=found)
    _leave_when_the_line_hangs_up(app.save_draft)
    app.run(mouse=profile.mouse)
    return 0


def _leave_when_the_line_hangs_up(save: Callable[[], None]) -> None:
    def leave(_number: int, _frame: object) -> None:
        # The terminal is gone, and the event loop may be waiting for it for ever.
        save()
        os._exit(128 + signal.SIGHUP)

    def watch() -> None:
        line = select.poll()
        line.register(sys.stdin, 0)  # nothing but that it hung up
        line.poll()
        os.kill(os.getpid(), signal.SIGHUP)

    signal.signal(signal.SIGHUP, leave)
    # The signal comes by itself only to the session that the terminal leads.
    threading.Thread(target=watch, daemon=True).start()


async def _start(home: Home) -> None:
    from potluck_tui.launch import ensure_running

    client = await ensure_running(home)
    await client.close()
