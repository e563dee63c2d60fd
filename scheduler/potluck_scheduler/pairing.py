"""Who belongs to this pool: invitations, members, and the ports for other machines.

A pool on one machine has no authority, no certificate and no port. The first invitation makes the
authority. The port for clients is opened for the first of them; a pool of workers alone needs none,
as the scheduler calls them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from potluck_proto import network
from potluck_proto.doors import Doors
from potluck_proto.errors import NotPaired, UnknownNode
from potluck_proto.home import Home
from potluck_proto.identity import Identity, Peer, Role
from potluck_proto.invite import Invite
from potluck_proto.lan import Advertiser
from potluck_proto.limits import Limits
from potluck_proto.record import Record
from potluck_proto.refusals import Refusals
from potluck_proto.settings import host_name
from potluck_scheduler.authority import Authority
from potluck_scheduler.enrolment import Admitted, Enrolment, Joining
from potluck_scheduler.members import Member, Members
from potluck_scheduler.settings import SchedulerSettings

log = logging.getLogger(__name__)

RENEW_CHECK_SECONDS = 3_600.0
EVERYWHERE = ("", "0.0.0.0", "::")


class Pairing:
    """The pool's authority at work.

    Args:
        home: Where keys and the list of members are.
        settings: Where to listen.
        limits: What callers may cost.
        doors: Where clients come in.
        refusals: Hears of whom was turned away.
        joined: Called with each machine that joined.

    Attributes:
        members: The machines that were let in.
        identity: This scheduler's own, once there is an authority.
    """

    def __init__(
        self,
        home: Home,
        settings: SchedulerSettings,
        limits: Limits,
        doors: Doors,
        refusals: Refusals,
        joined: Callable[[Member], None],
    ) -> None:
        self._home = home
        self._settings = settings
        self._limits = limits
        self._doors = doors
        self._joined = joined
        self._advertiser = Advertiser()
        self._telling: asyncio.Task[None] | None = None
        self._authority: Authority | None = None
        self.identity: Identity | None = None
        self.members = Members(home.members_file)
        self._enrolment = Enrolment(
            network.Listen.read(settings.join_listen, network.JOIN_PORT),
            limits,
            refusals,
            self._admit,
        )

    @property
    def pool(self) -> str:
        """The fingerprint by which the pool is known; empty before the first invitation."""
        return self._authority.pool if self._authority is not None else ""

    async def start(self) -> None:
        """Read the keys that there are; open the port if there are clients."""
        if self._home.authority_file.exists():
            await self._open_authority()
            self._open_port_for_clients()

    async def close(self) -> None:
        """Make open invitations void. The doors are closed by whoever opened them."""
        await self._enrolment.close()
        if self._telling is not None:
            await self._telling
        await self._advertiser.stop()

    async def keep_renewed(self) -> None:
        """Renew this scheduler's own certificate for ever."""
        while True:
            await asyncio.sleep(RENEW_CHECK_SECONDS)
            if self.identity is not None and self.identity.should_renew:
                self._identify()
                self._doors.renew(self.identity)

    async def invite(self, role: Role) -> tuple[Invite, float]:
        """Return a new invitation, and for how many seconds it counts.

        Raises `AddressError` or `IdentityError`.
        """
        if self.identity is None:
            await self._open_authority()
        assert self.identity is not None
        host = network.Listen.read(self._settings.join_listen, network.JOIN_PORT).host
        hosts = [host] if host not in EVERYWHERE else network.own_addresses() or ["127.0.0.1"]
        invite = self._enrolment.invite(self.identity, role, hosts)
        return invite, self._limits.invite_seconds

    async def remove(self, name: str) -> list[Member]:
        """Let a machine in no more, in any role, and end what it has open now."""
        removed = self.members.named(name)
        for member in removed:
            self.members.remove(member)
            await self._doors.shut_out(member.membership)
            log.info("removed the %s %s (%s)", member.role, member.name, member.node_id)
        return removed

    def renewed(self, peer: Peer, request: bytes) -> bytes:
        """Return the certificate that follows a member's. Raises `NotPaired`, `IdentityError`."""
        if self._authority is None or self.members.problem(peer):
            raise NotPaired(f"{peer.name} is not paired with this pool.")
        return self._authority.sign(request, peer)

    def worker(self, node_id: str) -> Peer:
        """Return the paired worker of an id. Raises `UnknownNode`."""
        for member in self.members:
            if (member.role, member.node_id) == (Role.WORKER, node_id):
                return member.peer
        raise UnknownNode(f"No worker {node_id} was paired.")

    async def _admit(self, joining: Joining) -> Admitted:
        assert self._authority is not None
        member = self.members.add(joining.role, joining.node_id, joining.name, joining.address)
        certificate = self._authority.sign(joining.request, member.peer)
        log.info("the %s %s (%s) joined", member.role, member.name, member.node_id)
        self._open_port_for_clients()
        self._joined(member)
        return Admitted(certificate, self._doors.port_number)

    async def _open_authority(self) -> None:
        """Read the authority, or make it, in a thread: the library takes a while to load."""
        self._authority = await asyncio.to_thread(Authority.open, self._home.authority_file)
        self._identify()

    def _identify(self) -> None:
        assert self._authority is not None
        peer = Peer(Role.SCHEDULER, self._home.node_id(), host_name())
        path = self._home.identity_file(Role.SCHEDULER)
        self.identity = self._authority.identity(path, peer)

    def _open_port_for_clients(self) -> None:
        """Listen for clients, and be found by them, from the first on.

        It stays open when the last is removed, to say so to who was.
        """
        if self._doors.port_number or all(m.role is not Role.CLIENT for m in self.members):
            return
        assert self.identity is not None
        listen = network.Listen.read(self._settings.listen, network.SCHEDULER_PORT)
        port = self._doors.open_port(listen, self.identity, self._problem)
        log.info("listening on port %d for clients", port)
        peer = self.identity.peer
        record = Record(Role.SCHEDULER, peer.node_id, peer.name, self.pool)
        # Zeroconf asks around for a second before it tells.
        self._telling = asyncio.create_task(self._advertiser.tell(record, listen.host, port))

    def _problem(self, peer: Peer) -> str | None:
        """Say why a machine may not come in here, where clients do."""
        if peer.role is not Role.CLIENT:
            return f"is a {peer.role} of this pool and no client"
        return self.members.problem(peer)
