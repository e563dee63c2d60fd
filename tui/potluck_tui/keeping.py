"""Start the daemons of this machine again that are killed while somebody looks on.

One that was stopped, or that went away by itself, stays so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from potluck_proto.daemon import died
from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
from potluck_tui.connect import is_local
from potluck_tui.launch import DAEMONS, ensure_daemon

LOOK_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 0.5
"""Between a death and the new start; twice that after each further death."""

LONGEST_PAUSE_SECONDS = 60.0
CALM_SECONDS = 300.0
"""A daemon that lived this long is started as soon as the first time."""

SERVICE_PAUSE_SECONDS = 15.0
"""What starts services again gets this long: systemd takes 2 s and launchd 10."""


@asynccontextmanager
async def kept_running(home: Home, ssh: str, say: Callable[[str], object]) -> AsyncIterator[None]:
    """Keep the daemons running where the pool is this machine's own.

    Args:
        home: This machine's.
        ssh: The machine whose pool is meant, as for `connect.connected`.
        say: Takes a sentence for the user.
    """
    names = DAEMONS if is_local(home, ssh) else ()
    keepers = [asyncio.create_task(_keep(home, name, say)) for name in names]
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


async def _keep(home: Home, name: str, say: Callable[[str], object]) -> None:
    pause_seconds, started = FIRST_PAUSE_SECONDS, time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not died(home, name):
            continue
        if time.monotonic() - started > CALM_SECONDS:
            pause_seconds = FIRST_PAUSE_SECONDS
        say(f"The {name} of this machine was killed or crashed. It is started again.")
        await asyncio.sleep(max(pause_seconds, _service_seconds(home, name)))
        try:
            await ensure_daemon(home, name)
        except PotluckError as error:
            say(error.message)
        started = time.monotonic()
        pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)


def _service_seconds(home: Home, name: str) -> float:
    from potluck_tui.services import is_service

    return SERVICE_PAUSE_SECONDS if is_service(home, name) else 0.0
