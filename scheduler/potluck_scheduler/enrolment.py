"""Where machines join: a port that is open while an invitation is, and does nothing else.

`potluck_proto.invite` says what goes over the wire. What comes is not trusted: it has ten seconds,
16 KiB, and five wrong tries in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from potluck_proto import invite as wire
from potluck_proto.errors import IdentityError, InviteError
from potluck_proto.identity import Identity, Role
from potluck_proto.ids import NodeId
from potluck_proto.limits import Limits
from potluck_proto.network import Listen, join_host_port
from potluck_proto.port import Port
from potluck_proto.refusals import Refusals

log = logging.getLogger(__name__)

EXCHANGE_SECONDS = 10.0

NAME_LIMIT = 40


@dataclass(frozen=True, slots=True)
class Joining:
    """A machine that proved that it was invited."""

    role: Role
    node_id: NodeId
    name: str
    request: bytes
    address: str
    """Where it listens, for a worker."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a machine gets that joins."""

    certificate: bytes
    port: int
    """Where clients call; 0 for a worker, which is called."""


@dataclass(frozen=True, slots=True)
class _Open:
    role: Role
    ends: float


class _Stream(asyncio.StreamReaderProtocol):
    """A connection as a pair of streams."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=wire.MESSAGE_LIMIT_BYTES)
        super().__init__(self.reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the writer too."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        loop = asyncio.get_running_loop()
        self.writer = asyncio.StreamWriter(transport, self, self.reader, loop)


class Enrolment:
    """Invitations, and the port for those who follow them.

    Args:
        listen: Where to listen while an invitation is open.
        limits: How long an invitation counts, and how many tries there are.
        refusals: Hears of whom was turned away.
        admit: Lets a machine in; may raise `IdentityError`.
        now: A clock in seconds.
    """

    def __init__(
        self,
        listen: Listen,
        limits: Limits,
        refusals: Refusals,
        admit: Callable[[Joining], Awaitable[Admitted]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listen = listen
        self._limits = limits
        self._refusals = refusals
        self._admit = admit
        self._now = now
        self._open: dict[bytes, _Open] = {}
        self._wrong_tries = 0
        self._served = asyncio.Event()
        self._port: Port[_Stream] | None = None
        self._closing: asyncio.Task[None] | None = None

    def invite(self, identity: Identity, role: Role, hosts: list[str]) -> wire.Invite:
        """Make an invitation, and listen until it is used or void. Raises `AddressError`.

        Args:
            identity: The scheduler's own.
            role: What the machine will be.
            hosts: By which addresses it may reach this machine.
        """
        if self._port is None:
            self._authority = identity.authority
            self._port = Port(
                self._listen,
                _context(identity),
                self._limits,
                self._refusals,
                _Stream,
                self._serve,
            )
            self._wrong_tries = 0
        invite = wire.Invite.new(role, identity.pool, hosts, self._port.number)
        ends = self._now() + self._limits.invite_seconds
        self._open[wire.hashed(invite.secret)] = _Open(role, ends)
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_in_time())
        return invite

    async def close(self) -> None:
        """Make all invitations void, and listen no more."""
        self._open.clear()
        if self._closing is not None:
            self._closing.cancel()
            await asyncio.gather(self._closing, return_exceptions=True)
            self._closing = None
        await self._close_port()

    async def _close_port(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await port.close()

    async def _close_in_time(self) -> None:
        """Listen until the last invitation is used or too old."""
        while self._live():
            self._served.clear()
            rest_seconds = max(each.ends for each in self._open.values()) - self._now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_seconds):
                    await self._served.wait()
        self._closing = None
        await self._close_port()

    def _live(self) -> bool:
        now = self._now()
        self._open = {key: each for key, each in self._open.items() if each.ends > now}
        return bool(self._open)

    async def _serve(self, stream: _Stream, address: str) -> None:
        """Speak first, listen once, answer once."""
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS):
                await wire.send(stream.writer, {"authority": self._authority})
                answer = await self._answer(await wire.receive(stream.reader), address)
                await wire.send(stream.writer, answer)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self._refusals.note(address, f"it did not join in the way of this version ({error})")
        finally:
            stream.writer.close()
            self._served.set()

    async def _answer(self, message: dict[str, object], address: str) -> dict[str, object]:
        """Return a certificate, or why there is none. Raises `ValueError` for what is malformed."""
        request = wire.value(message, "request", bytes)
        given = wire.value(message, "proof", bytes)
        try:
            role = self._role_of(request, given)
            joining = Joining(
                role=role,
                node_id=_node_id(wire.value(message, "node_id", str)),
                name=_name(wire.value(message, "name", str)),
                request=request,
                address=_address(address, wire.value(message, "port", int)),
            )
            admitted = await self._admit(joining)
        except (InviteError, IdentityError) as error:
            self._refusals.note(address, "it tried to join, without a right to")
            return {"error": error.message}
        return {
            "certificate": admitted.certificate,
            "port": admitted.port,
            "unix_seconds": time.time(),
        }

    def _role_of(self, request: bytes, given: bytes) -> Role:
        """Use up the invitation that a proof is for. Raises `InviteError`."""
        self._live()
        for secret, invitation in tuple(self._open.items()):
            if hmac.compare_digest(wire.proof(secret, request), given):
                del self._open[secret]
                return invitation.role
        self._wrong_tries += 1
        if self._wrong_tries >= self._limits.invite_tries and self._open:
            self._open.clear()
            log.warning("%d wrong tries to join: all invitations are void", self._wrong_tries)
        raise InviteError(
            "The invitation does not count: it was used, is older than "
            f"{self._limits.invite_seconds / 60:.0f} minutes, or is void after "
            f"{self._limits.invite_tries} wrong tries. Make a new one with `potluck invite`."
        )


def _context(identity: Identity) -> ssl.SSLContext:
    """Return how TLS is spoken with machines that have no certificate yet."""
    context = identity.server_context()
    context.verify_mode = ssl.CERT_NONE
    return context


def _node_id(text: str) -> NodeId:
    if len(text) != 16 or not set(text) <= set("0123456789abcdef"):
        raise ValueError("the node's id is not 16 hex digits")
    return NodeId(text)


def _name(text: str) -> str:
    name = "".join(filter(str.isprintable, text))[:NAME_LIMIT]
    if not name.strip():
        raise ValueError("the node has no name")
    return name


def _address(host: str, port: int) -> str:
    return join_host_port(host, port) if 0 < port < 65_536 else ""
