"""This worker's place in a pool: its certificate, and the port where the pool's scheduler calls.

A machine joins while its worker runs, or while it does not: the worker looks at the file of its
identity every few seconds, and opens, changes or closes its port by what it finds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from potluck_proto.doors import Doors
from potluck_proto.errors import IdentityError, PotluckError
from potluck_proto.home import Home
from potluck_proto.identity import Identity, KeyRequest, Peer, Role
from potluck_proto.network import WORKER_PORT, Listen

log = logging.getLogger(__name__)


class Membership:
    """Whether this worker belongs to a pool, and all that follows from it.

    Args:
        home: Where the identity is.
        listen: The setting that says where to listen.
        doors: Where the scheduler comes in.
        changed: Called when it joined or left a pool.
    """

    def __init__(self, home: Home, listen: str, doors: Doors, changed: Callable[[], None]) -> None:
        self._path = home.identity_file(Role.WORKER)
        self.listen = Listen.read(listen, WORKER_PORT)
        self._doors = doors
        self._changed = changed
        self._seen: tuple[int, int] | None = None
        self._next: KeyRequest | None = None
        self.identity: Identity | None = None

    @property
    def pool(self) -> str:
        """The fingerprint of the pool; empty where there is none."""
        return self.identity.pool if self.identity is not None else ""

    @property
    def port(self) -> int:
        """Where the pool's scheduler calls; 0 for nowhere."""
        return self._doors.port_number

    async def look(self) -> None:
        """Take in that the machine joined, left, or has another certificate.

        Raises `PotluckError`: the identity cannot be used, or the port is taken.
        """
        seen = self._look_at_file()
        if seen == self._seen:
            return
        self._seen = seen
        before, self.identity = self.identity, None
        if seen is not None:
            self.identity = await asyncio.to_thread(Identity.read, self._path)
        if self.identity is None or (before and before.pool != self.identity.pool):
            await self._doors.close_port()
        if self.identity is not None and not self.port:
            self._doors.open_port(self.listen, self.identity, _problem)
            log.info("joined the pool %s, listening on port %d", self.pool, self.port)
        elif self.identity is not None:
            self._doors.renew(self.identity)
        if before is None or self.identity is None or before.pool != self.identity.pool:
            self._changed()

    async def keep_looking(self, every_seconds: float) -> None:
        """Look for ever; what cannot be used is said once."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self.look()
            except PotluckError as error:
                log.warning("%s", error.message)

    def certificate_request(self) -> bytes:
        """Return a request for the next certificate, if it is time; else nothing."""
        if self.identity is None or not self.identity.should_renew:
            return b""
        if self._next is None:
            self._next = KeyRequest(self.identity.peer.name)
        return self._next.request

    def take(self, certificate: bytes) -> None:
        """Use the certificate that was asked for. Raises `IdentityError`."""
        if self.identity is None or self._next is None:
            raise IdentityError("This worker asked for no certificate.")
        self.identity = self.identity.replaced(self._next.key, certificate)
        self._next = None
        self._seen = self._look_at_file()
        self._doors.renew(self.identity)
        log.info("the certificate was renewed")

    def _look_at_file(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino


def _problem(peer: Peer) -> str | None:
    """Say why a machine of the pool may not come in here, where its scheduler does."""
    return None if peer.role is Role.SCHEDULER else f"is a {peer.role} and no scheduler"
