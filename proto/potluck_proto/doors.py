"""All ways into a daemon: a local socket, and a port for machines of the pool.

Every caller has a gRPC server of its own, on a unix socket. The owner's is the local socket. A
machine that shows a certificate of the pool at the port is led to the server that was made for it.
So a call cannot be anybody's but the one's whose server it came to, and to shut somebody out is to
stop a server: open streams end at once.

TLS is done here and not in gRPC, which tells nobody whom it turned away or why, and cannot let go
of a connection. It costs no more (measured: 0.12 ms of processor for a message in a stream, 0.14
with gRPC's own).

The local socket has mode 0600, in a folder of mode 0700: the kernel lets in this user, and root,
and asks for the uid in doing so. gRPC does not hand on who came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import grpc

from potluck_proto import network
from potluck_proto.errors import NotPaired
from potluck_proto.identity import OWNER, Identity, Peer, peer_of
from potluck_proto.limits import Limits
from potluck_proto.pipes import Pipe, lead_to
from potluck_proto.port import Port
from potluck_proto.refusals import Refusals
from potluck_proto.rules import TRUSTED, Gate
from potluck_proto.tls import FAREWELL

log = logging.getLogger(__name__)

Admit = Callable[[Peer], str | None]
"""Says in a clause why a machine of the pool may not come in; `None` lets it in."""


class _Room:
    """The server of one caller, and its connections."""

    def __init__(self, server: grpc.aio.Server, path: Path) -> None:
        self._server = server
        self.path = path
        self.pipes: set[Pipe] = set()

    async def close(self, grace_seconds: float | None) -> None:
        """End the calls, after the grace, and the connections."""
        await self._server.stop(grace_seconds)
        for pipe in tuple(self.pipes):
            pipe.abort()
        self.path.unlink(missing_ok=True)


class Doors:
    """The doors of one daemon.

    Args:
        register: Adds the daemon's service to a server.
        folder: Where the sockets of callers are made; must be private.
        limits: What a caller may cost.
        refusals: Hears of whom was turned away.
    """

    def __init__(
        self,
        register: Callable[[grpc.aio.Server], None],
        folder: Path,
        limits: Limits,
        refusals: Refusals,
    ) -> None:
        self._register = register
        self._folder = folder
        self._limits = limits
        self._refusals = refusals
        self._local: _Room | None = None
        self._port: Port[Pipe] | None = None
        self._rooms: dict[str, _Room] = {}
        self._making = asyncio.Lock()

    async def open_local(self, path: Path) -> None:
        """Serve this user at a socket in a private folder. Raises `AddressError`."""
        self._local = await self._make_room(OWNER, path)

    def open_port(self, listen: network.Listen, identity: Identity, admit: Admit) -> int:
        """Serve machines of the pool at a port; return its number.

        Args:
            listen: Where to listen.
            identity: What is shown to them.
            admit: Decides about those whose certificate is of the pool.

        Raises:
            AddressError: The port is taken.
        """

        async def enter(pipe: Pipe, address: str) -> None:
            await self._enter(pipe, address, admit)

        self._port = Port(
            listen,
            identity.server_context(),
            self._limits,
            self._refusals,
            lambda: Pipe(self._limits.stall_seconds),
            enter,
        )
        return self._port.number

    @property
    def port_number(self) -> int:
        """The port for machines of the pool; 0 where none is open."""
        return self._port.number if self._port is not None else 0

    def renew(self, identity: Identity) -> None:
        """Show another certificate to whoever comes from now on."""
        if self._port is not None:
            self._port.context = identity.server_context()

    async def close_port(self) -> None:
        """Listen no more for machines of the pool, and end what they have open."""
        port, self._port = self._port, None
        if port is not None:
            await port.close()
        for membership in tuple(self._rooms):
            await self.shut_out(membership)

    async def shut_out(self, membership: str) -> None:
        """End all that one machine has open, at once."""
        if (room := self._rooms.pop(membership, None)) is not None:
            await room.close(None)

    async def stop(self, grace_seconds: float) -> None:
        """Close everything; calls get the grace to end."""
        if self._port is not None:
            await self._port.close()
        rooms = [*self._rooms.values(), *([self._local] if self._local else [])]
        self._rooms.clear()
        await asyncio.gather(*(room.close(grace_seconds) for room in rooms))

    async def _enter(self, pipe: Pipe, address: str, admit: Admit) -> None:
        """Lead a connection whose certificate is of this pool to its caller's server."""
        try:
            peer = peer_of(pipe.certificate())
        except NotPaired as error:
            self._turn_away(pipe, address, error.message)
            return
        if not (reason := admit(peer)):
            room = await self._room(peer)
            # It may have been removed meanwhile.
            reason = admit(peer) or self._too_many(room)
        if reason:
            self._turn_away(pipe, address, f"{peer.name} {reason}")
            return
        room.pipes.add(pipe)
        pipe.on_closed = lambda: room.pipes.discard(pipe)
        await lead_to(pipe, room.path)

    def _too_many(self, room: _Room) -> str | None:
        limit = self._limits.connections_per_client
        return f"has {limit} connections already" if len(room.pipes) >= limit else None

    def _turn_away(self, pipe: Pipe, address: str, reason: str) -> None:
        self._refusals.note(address, reason)
        pipe.write(FAREWELL + reason.encode())
        pipe.close()

    async def _room(self, peer: Peer) -> _Room:
        async with self._making:
            if peer.membership not in self._rooms:
                path = self._folder / f"{peer.role[0]}-{peer.membership[:10]}"
                self._rooms[peer.membership] = await self._make_room(peer, path)
                log.info("the %s %s (%s) came in", peer.role, peer.name, peer.node_id)
            return self._rooms[peer.membership]

    async def _make_room(self, peer: Peer, path: Path) -> _Room:
        server = grpc.aio.server(
            interceptors=[Gate(peer, self._limits)],
            options=network.server_options(
                self._limits.message_bytes,
                None if peer.role in TRUSTED else self._limits.calls_per_client,
            ),
        )
        self._register(server)
        network.listen_unix(server, path)
        await server.start()
        return _Room(server, path)
