"""Joining a pool, as the machine that joins. What goes over the wire: `potluck_proto.invite`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from potluck_proto import invite as wire
from potluck_proto.daemon import running_instance
from potluck_proto.errors import IdentityError, InviteError, NotPaired, Unreachable
from potluck_proto.home import Home, write_private
from potluck_proto.identity import (
    Identity,
    KeyRequest,
    Role,
    der,
    fingerprint,
    peer_named,
)
from potluck_proto.invite import Invite
from potluck_proto.network import WORKER_PORT, join_host_port, split_host_port
from potluck_proto.plain import plain
from potluck_proto.settings import worker_name
from potluck_tui import launch

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
SKEW_SAID_SECONDS = 60.0
"""Clocks that differ by more are said: certificates count from one moment to another."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of joining."""

    identity: Identity
    skew_seconds: float
    """How far this machine's clock is ahead of the scheduler's."""

    @property
    def words(self) -> str:
        """What to say to who joined."""
        peer, pool = self.identity.peer, self.identity.pool
        goes_on = (
            "The worker here serves it now. `potluck service install --only worker` keeps it after "
            "the next start of this machine."
            if peer.role is Role.WORKER
            else "`potluck` opens that pool from now on; `potluck leave` returns to your own."
        )
        lines = [f"Joined the pool {pool} as {peer.role} {peer.name}.", goes_on]
        return "\n".join(filter(None, [*lines, self._clock_warning]))

    @property
    def _clock_warning(self) -> str:
        if abs(self.skew_seconds) < SKEW_SAID_SECONDS:
            return ""
        way = "ahead of" if self.skew_seconds > 0 else "behind"
        return (
            f"This machine's clock is {abs(self.skew_seconds) / 60:.0f} minutes {way} the "
            "scheduler's. Up to a day does no harm; more, and certificates do not count."
        )


async def follow(line: str, home: Home) -> Joined:
    """Join with a line, and have the worker here run where it joined as one.

    Raises `PotluckError`; no message repeats the line.
    """
    invite = Invite.read(line)
    home.prepare()
    port = WORKER_PORT if invite.role is Role.WORKER else 0
    joined = await join(invite, home, worker_name(home), port)
    if invite.role is Role.WORKER and running_instance(home, "worker") is None:
        await launch.start(launch.Daemon("worker", ("--idle-exit", "0")), home)
    return joined


async def join(invite: Invite, home: Home, name: str, port: int) -> Joined:
    """Follow an invitation, and store the identity that it gives.

    Args:
        invite: The invitation.
        home: Where the identity is stored.
        name: What people call this machine.
        port: Where its worker listens, as far as is known; 0 for a client.

    Raises:
        InviteError: The invitation does not count.
        NotPaired: Who answers is not whom the invitation is of. Nothing was sent.
        Unreachable: Nobody answers.
    """
    failures = []
    for address in invite.addresses:
        try:
            return await _join_at(address, invite, home, name, port)
        except Unreachable as error:
            failures.append(error.message)
    raise Unreachable(
        " ".join(failures) + " The invitation may be used or older than it counts; a firewall must "
        "let its port through."
    )


async def _join_at(address: str, invite: Invite, home: Home, name: str, port: int) -> Joined:
    host, number = split_host_port(address)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, number, ssl=_context(), limit=wire.MESSAGE_LIMIT_BYTES
            )
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"{address} does not answer{_reason(error)}.") from error
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            authority = wire.value(await wire.receive(reader), "authority", bytes)
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            _check(authority, shown, invite)
            request = KeyRequest(name)
            await wire.send(writer, _message(invite, home, name, port, request))
            answer = await wire.receive(reader)
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        raise Unreachable(
            f"{address} broke off while this machine joined ({plain(error)})."
        ) from error
    finally:
        writer.transport.abort()
    if isinstance(refusal := answer.get("error"), str):
        raise InviteError(refusal)
    return _store(answer, authority, request, invite, home, host)


def _reason(error: OSError | TimeoutError) -> str:
    """Return why nobody answers, as the end of a sentence."""
    if isinstance(error, TimeoutError):
        return " in time"
    if error.errno and not isinstance(error, socket.gaierror):
        return f": {os.strerror(error.errno).lower()}"
    return f": {error.strerror or error}"


def _check(authority_pem: bytes, shown_der: bytes, invite: Invite) -> None:
    """Raise `NotPaired` unless the other side is the scheduler of the pool that invited."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        authority = x509.load_pem_x509_certificate(authority_pem)
        shown = x509.load_der_x509_certificate(shown_der)
        same = fingerprint(der(authority)) == invite.pool
        if same:
            shown.verify_directly_issued_by(authority)
        right = same and peer_named(shown)[0].role is Role.SCHEDULER
    except (ValueError, TypeError, InvalidSignature, NotPaired, x509.ExtensionNotFound):
        right = False
    if not right:
        raise NotPaired(
            "Who answers is not the pool that the invitation is of: its certificate has another "
            "fingerprint. Nothing was sent. Is there another machine in between?"
        )


def _message(
    invite: Invite, home: Home, name: str, port: int, request: KeyRequest
) -> Mapping[str, object]:
    return {
        "request": request.request,
        "proof": wire.proof(wire.hashed(invite.secret), request.request),
        "node_id": home.node_id(),
        "name": name,
        "port": port,
    }


def _store(
    answer: Mapping[str, object],
    authority: bytes,
    request: KeyRequest,
    invite: Invite,
    home: Home,
    host: str,
) -> Joined:
    """Keep the identity, and where a client finds its pool."""
    try:
        certificate = wire.value(answer, "certificate", bytes)
        port = wire.value(answer, "port", int)
        skew_seconds = time.time() - wire.value(answer, "unix_seconds", float)
    except ValueError as error:
        raise InviteError(f"The scheduler's answer is not of this version: {error}.") from error
    path = home.identity_file(invite.role)
    write_private(path, request.key + certificate + authority)
    try:
        identity = Identity.read(path)
    except IdentityError:
        path.unlink()
        raise
    if invite.role is Role.CLIENT:
        remember_address(home, join_host_port(host, port))
    return Joined(identity, skew_seconds)


def remember_address(home: Home, address: str) -> None:
    """Keep where the pool of a client is."""
    write_private(home.client_pool_file, json.dumps({"address": address}).encode())


def remembered_address(home: Home) -> str:
    """Return where the pool of a client was last. Raises `IdentityError`."""
    try:
        return str(json.loads(home.client_pool_file.read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IdentityError(
            f"{home.client_pool_file} cannot be read ({error!r}). Leave the pool with "
            "`potluck leave`, and join again."
        ) from error


def leave(home: Home) -> list[Role]:
    """Forget the pools that this machine joined; return what it was to them."""
    left = []
    for role in (Role.WORKER, Role.CLIENT):
        path: Path = home.identity_file(role)
        if path.exists():
            path.unlink()
            left.append(role)
    home.client_pool_file.unlink(missing_ok=True)
    return left


def _context() -> ssl.SSLContext:
    """Return how TLS is spoken with whom nothing is known of: `_check` decides."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
