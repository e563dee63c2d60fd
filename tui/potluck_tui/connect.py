"""Which pool a command or the terminal is for, and the way there.

The pool of another machine through ssh where that is asked for; the pool that this machine joined
as a client; else the pool of this machine, which is started where it does not run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from potluck_proto.errors import NotPaired, PotluckError, Unreachable
from potluck_proto.home import Home
from potluck_proto.identity import Identity, KeyRequest, Role
from potluck_proto.network import unix_address
from potluck_proto.ssh import Tunnel
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.client import PoolClient
from potluck_tui.joining import remember_address, remembered_address
from potluck_tui.launch import ensure_running, until_a_node_is_ready

log = logging.getLogger(__name__)

LOOK_SECONDS = 4.0
"""How long a client looks on the network for its pool, where it is not where it was."""


def is_local(home: Home, ssh: str = "") -> bool:
    """Say whether the pool is that of this machine (see `connected`)."""
    return not ssh and not home.identity_file(Role.CLIENT).exists()


@asynccontextmanager
async def connected(home: Home, ssh: str = "") -> AsyncIterator[PoolClient]:
    """Yield a client of the pool.

    Args:
        home: This machine's.
        ssh: The machine whose pool is meant: USER@HOST[:PORT]; empty for this one's.

    Raises:
        PotluckError: There is no way there; the message says why.
    """
    if ssh:
        async with _through_ssh(ssh) as client:
            yield client
        return
    client = await (ensure_running(home) if is_local(home) else _at_its_port(home))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def running_pool(home: Home, ssh: str = "") -> AsyncIterator[PoolClient]:
    """Yield a client of the pool once a worker is ready."""
    async with connected(home, ssh) as client:
        await until_a_node_is_ready(client)
        yield client


@asynccontextmanager
async def _through_ssh(target: str) -> AsyncIterator[PoolClient]:
    tunnel = Tunnel(target, "scheduler", ask=True)
    async with tunnel as socket:
        client = PoolClient(unix_address(socket))
        keeping = asyncio.create_task(tunnel.keep_open(log.warning))
        try:
            await client.check_version()
            yield client
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await client.close()


async def _at_its_port(home: Home) -> PoolClient:
    """Return a client of the pool that this machine joined."""
    home.prepare()
    identity = Identity.read(home.identity_file(Role.CLIENT))
    address = remembered_address(home)
    try:
        return await _answering(address, identity)
    except (Unreachable, NotPaired):
        # Somebody else may have the address now.
        found = await _look(identity.pool)
        if found in ("", address):
            raise
        client = await _answering(found, identity)
        remember_address(home, found)
        return client


async def _answering(address: str, identity: Identity) -> PoolClient:
    client = PoolClient(address, identity)
    try:
        await client.check_version()
        if identity.should_renew:
            await _renew(client, identity)
    except BaseException:
        await client.close()
        raise
    return client


async def _renew(client: PoolClient, identity: Identity) -> None:
    """Get the next certificate; what fails is tried again next time."""
    key = KeyRequest(identity.peer.name)
    request = pb.RenewCertificateRequest(certificate_request=key.request)
    try:
        response = await client.call(client.stub.RenewCertificate, request)
        identity.replaced(key.key, response.certificate)
    except PotluckError as error:
        log.warning("the certificate was not renewed: %s", error.message)


async def _look(pool: str) -> str:
    """Return where the scheduler of a pool says that it is; empty where it is not seen."""
    from potluck_proto.lan import Browser, Sighting

    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def seen(sighting: Sighting) -> None:
        record = sighting.record
        if record.role is Role.SCHEDULER and record.pool == pool and not found.done():
            found.set_result(sighting.address)

    browser = Browser(seen, lambda _: None)
    await browser.start()
    try:
        await asyncio.wait([found], timeout=LOOK_SECONDS)
    finally:
        await browser.stop()
    return found.result() if found.done() else ""
