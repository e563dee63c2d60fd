from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pairing.conftest import House, ask
from potluck_proto.errors import IdentityError, NotPaired
from potluck_proto.home import Home, write_private
from potluck_proto.identity import (
    CLOCK_SKEW_SECONDS,
    DAY_SECONDS,
    LIFETIME_SECONDS,
    Identity,
    KeyRequest,
    Peer,
    Role,
)
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.authority import Authority
from potluck_tui.connect import connected


def age(house: House, home: Home, role: Role, days: float) -> Identity:
    """Put an older certificate in the place of a machine's own."""
    path = home.identity_file(role)
    young = Identity.read(path)
    authority = house.daemon.pairing._authority
    assert authority is not None
    made = KeyRequest(young.peer.name)
    then = time.time() - days * DAY_SECONDS
    certificate = authority.sign(made.request, young.peer, then)
    write_private(path, made.key + certificate + young.authority)
    return Identity.read(path)


async def test_a_worker_gets_its_next_certificate_over_the_channel_of_the_work(
    house: House,
) -> None:
    home = house.machine("attic")
    await house.join(home, Role.WORKER)
    old = age(house, home, Role.WORKER, 15)
    assert old.should_renew
    daemon = await house.worker(home)
    await house.add(f"127.0.0.1:{daemon.membership.port}")
    await house.until("attic", pb.NODE_HEALTH_READY)
    async for _ in house.owner.watch_pool():
        assert daemon.membership.identity is not None
        if not daemon.membership.identity.should_renew:
            break
    new = Identity.read(home.identity_file(Role.WORKER))
    assert new.ends_unix_seconds > old.ends_unix_seconds
    assert new.key != old.key
    assert new.peer == old.peer
    assert await ask(house.owner) == "Hello from attic."


async def test_a_client_gets_its_next_certificate_when_it_comes(house: House) -> None:
    home = house.machine("couch")
    await house.join(home, Role.CLIENT)
    old = age(house, home, Role.CLIENT, 15)
    async with connected(home) as client:
        await client.check_version()
    new = Identity.read(home.identity_file(Role.CLIENT))
    assert new.ends_unix_seconds > old.ends_unix_seconds
    assert not new.should_renew
    async with connected(home) as client:
        await client.check_version()
    assert Identity.read(home.identity_file(Role.CLIENT)) == new


async def test_a_certificate_that_ran_out_is_said_with_the_day(house: House) -> None:
    home = house.machine("couch")
    await house.join(home, Role.CLIENT)
    age(house, home, Role.CLIENT, 40)
    with pytest.raises(NotPaired, match=r"which ran out \d{4}-\d\d-\d\d"):
        async with connected(home):
            pass


async def test_a_scheduler_renews_its_own_at_its_start(short_tmp: Path) -> None:
    authority = Authority.open(short_tmp / "authority.pem")
    peer = Peer(Role.SCHEDULER, NodeId("0" * 16), "hall")
    made = KeyRequest("hall")
    path = short_tmp / "scheduler.pem"
    old = authority.sign(made.request, peer, time.time() - 15 * DAY_SECONDS)
    write_private(path, made.key + old + authority.certificate)
    assert Identity.read(path).should_renew
    renewed = authority.identity(path, peer)
    assert not renewed.should_renew
    assert authority.identity(path, peer) == renewed


async def test_a_certificate_for_somebody_else_is_not_taken(house: House) -> None:
    home = house.machine("attic")
    identity = (await house.join(home, Role.WORKER)).identity
    authority = house.daemon.pairing._authority
    assert authority is not None
    other = KeyRequest("shed")
    certificate = authority.sign(other.request, Peer(Role.WORKER, NodeId("1" * 16), "shed"))
    with pytest.raises(IdentityError, match="not for this machine"):
        identity.replaced(other.key, certificate)
    with pytest.raises(IdentityError, match="is none"):
        identity.replaced(other.key, b"nonsense")
    assert Identity.read(identity.path) == identity


async def test_clocks_that_differ_are_said_and_do_no_harm(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house.machine("couch")
    behind = time.time() - 1_800
    with monkeypatch.context() as patched:
        patched.setattr("potluck_tui.joining.time", SimpleNamespace(time=lambda: behind))
        joined = await house.join(home, Role.CLIENT)
    assert "30 minutes behind" in joined.words
    async with connected(home) as client:
        await client.check_version()


def test_certificates_are_short_lived_and_allow_for_clocks_that_are_behind() -> None:
    assert LIFETIME_SECONDS <= 31 * DAY_SECONDS
    assert CLOCK_SKEW_SECONDS >= 3_600
