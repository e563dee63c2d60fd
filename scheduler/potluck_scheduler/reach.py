"""How a scheduler gets to a worker: a socket of this machine, the user's ssh, or TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from potluck_proto import network, tls
from potluck_proto.errors import NotPaired
from potluck_proto.identity import Role
from potluck_proto.ids import NodeId
from potluck_proto.ssh import SSH_SCHEME, Tunnel
from potluck_scheduler.pairing import Pairing


@dataclass(frozen=True, slots=True)
class Reached:
    """A channel to a worker, not yet connected."""

    channel: grpc.aio.Channel
    node_id: NodeId | None = None
    """Who it is, by its certificate; over a socket or ssh, this user's account vouches for it."""


class Reach:
    """Opens channels to workers.

    Args:
        pairing: Whose members may be reached, and with which certificate.
    """

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing

    @asynccontextmanager
    async def __call__(self, address: str) -> AsyncIterator[Reached]:
        """Yield a channel to a worker. Raises `PotluckError`: nothing of the pool is there."""
        if address.startswith("unix:"):
            async with network.dial(address) as channel:
                yield Reached(channel)
        elif address.startswith(SSH_SCHEME):
            async with (
                Tunnel(address, "worker") as socket,
                network.dial(network.unix_address(socket)) as channel,
            ):
                yield Reached(channel)
        else:
            async with self._paired(address) as reached:
                yield reached

    @asynccontextmanager
    async def _paired(self, address: str) -> AsyncIterator[Reached]:
        identity = self._pairing.identity
        if identity is None:
            raise NotPaired(
                f"{address} is another machine, and none was paired with this pool yet. Run "
                "`potluck invite` here and `potluck join` there, or name it as ssh://USER@HOST."
            )
        peer = await tls.greet(address, identity)
        problem = self._pairing.members.problem(peer)
        if problem is None and peer.role is not Role.WORKER:
            problem = f"is a {peer.role} and no worker"
        if problem:
            raise NotPaired(
                f"{peer.name} at {address} {problem}. To pair it, run `potluck invite` here and "
                "`potluck join` there."
            )
        async with tls.channel(address, identity, peer.server_name) as channel:
            yield Reached(channel, peer.node_id)
