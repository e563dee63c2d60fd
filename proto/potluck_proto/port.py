"""A TCP port where nothing but TLS is spoken.

What comes before a certificate was shown is cheap and bounded: a connection that says nothing is
closed after `handshake_seconds`, or before, where it is the oldest of too many; one address opens
`connections_per_second`, and what it opens beyond that is closed unread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from potluck_proto.limits import Limits
from potluck_proto.network import Listen
from potluck_proto.refusals import Refusals
from potluck_proto.tls import why_not

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 1.0
"""How long the other side has to agree that a connection ends."""

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
EXHAUSTED_SECONDS = 0.1
ADDRESSES_KEPT = 1_024

Protocol = TypeVar("Protocol", bound=asyncio.BaseProtocol)


class Port(Generic[Protocol]):
    """Listens, and hands on whoever completes the handshake.

    Args:
        listen: Where to listen.
        context: How TLS is spoken, and what must be shown.
        limits: What connections may cost.
        refusals: Hears of whom was turned away.
        make: Makes the protocol of a connection.
        enter: Takes a connection, and the address that it comes from.

    Attributes:
        number: The port.
        context: May be replaced; connections that are there keep theirs.

    Raises:
        AddressError: The port is taken, or the host is none of this machine's.
    """

    def __init__(
        self,
        listen: Listen,
        context: ssl.SSLContext,
        limits: Limits,
        refusals: Refusals,
        make: Callable[[], Protocol],
        enter: Callable[[Protocol, str], Awaitable[None]],
    ) -> None:
        self.context = context
        self._limits = limits
        self._refusals = refusals
        self._make = make
        self._enter = enter
        self._listener = listen.open()
        self.number: int = self._listener.getsockname()[1]
        self._knocking: OrderedDict[asyncio.Task[None], None] = OrderedDict()
        self._rates: OrderedDict[str, _Rate] = OrderedDict()
        self._accepting = asyncio.create_task(self._accept(), name=f"port {self.number}")

    async def close(self) -> None:
        """Listen no more. Connections that came in stay."""
        tasks = [self._accepting, *self._knocking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    log.warning("no connection can be taken: %s", error)
                    await asyncio.sleep(EXHAUSTED_SECONDS)
                continue
            host = address[0].removeprefix("::ffff:")
            if not self._rate(host).allows(self._limits.connections_per_second):
                connection.close()
                self._refusals.note(host, "it opens connections too fast")
                continue
            if len(self._knocking) >= self._limits.handshakes:
                oldest, _ = self._knocking.popitem(last=False)
                oldest.cancel()
            task = asyncio.create_task(self._welcome(connection, host))
            self._knocking[task] = None
            task.add_done_callback(lambda done: self._knocking.pop(done, None))

    async def _welcome(self, connection: socket.socket, host: str) -> None:
        try:
            _, protocol = await asyncio.get_running_loop().connect_accepted_socket(
                self._make,
                connection,
                ssl=self.context,
                ssl_handshake_timeout=self._limits.handshake_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except OSError as error:
            self._refusals.note(host, why_not(error))
        else:
            await self._enter(protocol, host)

    def _rate(self, host: str) -> _Rate:
        rate = self._rates.setdefault(host, _Rate())
        self._rates.move_to_end(host)
        if len(self._rates) > ADDRESSES_KEPT:
            self._rates.popitem(last=False)
        return rate


class _Rate:
    """How many connections one address opened of late."""

    def __init__(self) -> None:
        self._level = 0.0
        self._last = time.monotonic()

    def allows(self, per_second: int) -> bool:
        """Count one more, if it is not too many; twice as many as a second's may come at once."""
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._last) * per_second)
        self._last = now
        if self._level >= 2 * per_second:
            return False
        self._level += 1
        return True
