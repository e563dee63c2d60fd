"""Bytes of one connection that go on to another, as fast as the slower of the two takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Pipe(asyncio.Protocol):
    """One end of a connection; it reads nothing before it was joined to another.

    Args:
        stall_seconds: It is cut when it takes nothing for so long of what waits for it; `None` has
            all the time there is.
    """

    def __init__(self, stall_seconds: float | None) -> None:
        self._stall_seconds = stall_seconds
        self._transport: asyncio.Transport | None = None
        self._other: Pipe | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.on_closed: Callable[[], None] = lambda: None

    def certificate(self) -> dict[str, Any]:
        """Return what the other side showed, as `ssl` verified it."""
        assert self._transport is not None
        return self._transport.get_extra_info("peercert") or {}

    def join(self, other: Pipe) -> None:
        """Let the bytes of each go to the other."""
        for pipe, its_other in ((self, other), (other, self)):
            pipe._other = its_other
            if pipe._transport is None or pipe._transport.is_closing():
                its_other.close()
                return
        for pipe in (self, other):
            assert pipe._transport is not None
            pipe._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes, soon."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Send what waits, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # --- What asyncio calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the other end."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self._other is not None:
            self._other.write(data)

    def pause_writing(self) -> None:
        """Read no more at the other end than this one takes."""
        if self._stall_seconds is not None:
            loop = asyncio.get_running_loop()
            self._stalled = loop.call_later(self._stall_seconds, self.abort)
        if self._other is not None and self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on at the other end."""
        self._not_stalled()
        if self._other is not None and self._other._transport is not None:
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end as well."""
        self._not_stalled()
        if self._other is not None:
            self._other.close()
        self.on_closed()

    def _not_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


async def lead_to(pipe: Pipe, path: Path) -> None:
    """Connect to a socket, and join a pipe to it; one that cannot be reached closes the pipe."""
    inner = Pipe(None)
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: inner, str(path))
    except OSError:
        pipe.close()
    else:
        pipe.join(inner)
