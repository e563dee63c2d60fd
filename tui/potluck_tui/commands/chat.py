"""`potluck` in a terminal: the way to the pool, then the Textual app."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

from potluck_proto.errors import SetupError
from potluck_proto.home import Home
from potluck_tui import preferences, terminal_profile
from potluck_tui.preferences import Read
from potluck_tui.terminal_profile import TerminalProfile


def chat(options: argparse.Namespace, home: Home) -> int:
    """Open the terminal UI; return its exit code."""
    # All that is imported stays. To look for garbage in it takes a tenth of the start.
    gc.disable()
    found = preferences.read(home.settings_file)
    if options.ssh_profile:
        found = found.with_choice(ssh_profile=preferences.Switch.ON)
    if options.read_only:
        found = found.with_choice(read_only=True)
    profile = terminal_profile.detect(os.environ, found.preferences)
    if profile.refusal:
        raise SetupError(profile.refusal)
    terminal_profile.apply(profile)
    asyncio.run(_chat(home, profile, found, options.ssh))
    return 0


async def _chat(home: Home, profile: TerminalProfile, found: Read, ssh: str) -> None:
    from potluck_tui.connect import connected
    from potluck_tui.keeping import kept_running

    home.prepare()
    async with connected(home, ssh) as client:
        # Textual reads its environment when it is imported, so it is imported after that is set.
        from potluck_tui import pasting
        from potluck_tui.app import PotluckApp

        pasting.install()
        app = PotluckApp(client, home, profile, preferences=found)
        _leave_when_the_line_hangs_up(app.save_draft)
        async with kept_running(home, ssh, app.tell):
            await app.run_async(mouse=profile.mouse)


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
