"""Waking everyone who waits for a change."""

from __future__ import annotations

import asyncio


class Pulse:
    """Beats when something changed.

    Take `next_beat` before looking at the state, and await it after: no change is missed.
    """

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def next_beat(self) -> asyncio.Future[None]:
        """Return a future that the next beat sets; all who wait share it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._next)  # one that stops waiting leaves the others alone

    async def wait(self, timeout_seconds: float) -> None:
        """Return at the next beat, or after `timeout_seconds` without one."""
        await asyncio.wait([self.next_beat()], timeout=timeout_seconds)

    def beat(self) -> None:
        """Wake all who wait."""
        if self._next is not None:
            self._next.set_result(None)
            self._next = None
