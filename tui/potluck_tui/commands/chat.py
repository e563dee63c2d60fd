"""`potluck` in a terminal: the way to the pool, then the Textual app."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from potluck_proto.errors import SetupError
from potluck_proto.home import Home
from potluck_tui import preferences, terminal_profile
from potluck_tui.preferences import Read
from potluck_tui.terminal_profile import TerminalProfile

LEAVE_SECONDS = 2.0
"""A terminal that has not taken by then what restores it does not read at all."""


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
    return asyncio.run(_chat(home, profile, found, options.ssh))


async def _chat(home: Home, profile: TerminalProfile, found: Read, ssh: str) -> int:
    from potluck_tui.connect import connected
    from potluck_tui.keeping import kept_running

    home.prepare()
    async with connected(home, ssh) as client:
        # Textual reads its environment when it is imported, so it is imported after that is set.
        from potluck_tui import pasting
        from potluck_tui.app import PotluckApp

        pasting.install()
        app = PotluckApp(client, home, profile, preferences=found)
        with _leaving_when_told(app.save_draft, lambda code: app.exit(return_code=code)):
            async with kept_running(home, ssh, app.tell):
                await app.run_async(mouse=profile.mouse)
    return app.return_code or 0


@contextlib.contextmanager
def _leaving_when_told(save: Callable[[], None], leave: Callable[[int], None]) -> Iterator[None]:
    """Leave when the line hangs up or somebody ends the program, and keep what was typed.

    Args:
        save: Keeps it.
        leave: Gives the terminal back as it was, and ends with a code. It waits for the terminal.
    """
    loop = asyncio.get_running_loop()

    def told(number: int, _frame: object) -> None:
        save()
        code = 128 + number
        if _line_hung_up(wait=False):
            os._exit(code)  # The event loop may be waiting for the terminal for ever.
        late = threading.Timer(LEAVE_SECONDS, os._exit, (code,))
        late.daemon = True
        late.start()
        loop.call_soon_threadsafe(leave, code)

    def watch() -> None:
        _line_hung_up(wait=True)
        os.kill(os.getpid(), signal.SIGHUP)

    before = {number: signal.signal(number, told) for number in (signal.SIGHUP, signal.SIGTERM)}
    # The signal comes by itself only to the session that the terminal leads.
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line_hung_up(*, wait: bool) -> bool:
    line = select.poll()
    line.register(sys.stdin, 0)  # nothing but that it hung up
    return bool(line.poll(None if wait else 0))
