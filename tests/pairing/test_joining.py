from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pairing.conftest import House, ask, running_house
from potluck_proto import invite as wire
from potluck_proto.errors import InviteError, NotPaired, Unreachable
from potluck_proto.identity import Identity, Role
from potluck_proto.invite import Invite
from potluck_proto.limits import Limits
from potluck_proto.network import split_host_port
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui import joining


async def test_a_worker_joins_with_one_line_and_answers(house: House) -> None:
    await house.paired_worker()
    assert await ask(house.owner) == "Hello from attic."
    (member,) = (await house.listed()).members
    assert (member.name, member.role) == ("attic", "worker")


async def test_a_client_joins_with_one_line_and_chats(house: House) -> None:
    await house.paired_worker()
    client = await house.paired_client()
    assert client.address.startswith("127.0.0.1:")
    assert await ask(client) == "Hello from attic."


async def test_a_worker_that_runs_already_takes_in_that_it_joined(house: House) -> None:
    home = house.machine("attic")
    daemon = await house.worker(home)
    assert not daemon.membership.port
    await house.join(home, Role.WORKER)
    await daemon.membership.look()
    await house.add(f"127.0.0.1:{daemon.membership.port}")
    await house.until("attic", pb.NODE_HEALTH_READY)


async def test_a_worker_that_left_listens_no_more(house: House) -> None:
    daemon = await house.paired_worker()
    assert joining.leave(house.machine("attic")) == [Role.WORKER]
    await daemon.membership.look()
    assert not daemon.membership.port
    await house.until("attic", pb.NODE_HEALTH_LOST)


async def test_keys_are_for_this_user_alone(house: House) -> None:
    home = house.machine("couch")
    await house.join(home, Role.CLIENT)
    for each in (home, house.home):
        for path in (each.root / "identity").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    path = home.identity_file(Role.CLIENT)
    path.chmod(0o640)
    with pytest.raises(Exception, match=r"open to other users.*chmod 600"):
        Identity.read(path)


async def test_an_invitation_counts_once(house: House) -> None:
    invite = Invite.read(await house.invite(Role.WORKER))
    # A second one keeps the port open.
    await house.invite(Role.WORKER)
    await joining.join(invite, house.machine("attic"), "attic", 0)
    with pytest.raises(InviteError, match="was used"):
        await joining.join(invite, house.machine("shed"), "shed", 0)
    assert [member.name for member in (await house.listed()).members] == ["attic"]


def listening_ports() -> set[int]:
    return {
        connection.laddr.port
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


async def until_closed(port: int) -> None:
    while port in listening_ports():  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(0.01)


async def test_the_port_is_closed_when_the_last_invitation_is_used(house: House) -> None:
    assert not listening_ports()
    invite = Invite.read(await house.invite(Role.WORKER))
    _, port = split_host_port(invite.addresses[0])
    assert listening_ports() == {port}
    await joining.join(invite, house.machine("attic"), "attic", 0)
    await until_closed(port)


async def test_an_invitation_dies_in_time(short_tmp: Path) -> None:
    async with running_house(short_tmp, Limits(invite_seconds=0.2)) as house:
        invite = Invite.read(await house.invite(Role.WORKER))
        _, port = split_host_port(invite.addresses[0])
        await until_closed(port)
        with pytest.raises(Unreachable, match="does not answer: connection refused"):
            await joining.join(invite, house.machine("attic"), "attic", 0)


async def test_after_five_wrong_tries_all_invitations_are_void(house: House) -> None:
    right = Invite.read(await house.invite(Role.WORKER))
    wrong = replace(right, secret=b"guess" * 3 + b"!")
    for _ in range(5):
        with pytest.raises(InviteError):
            await joining.join(wrong, house.machine("thief"), "thief", 0)
    with pytest.raises((InviteError, Unreachable)):
        await joining.join(right, house.machine("attic"), "attic", 0)
    listed = await house.listed()
    assert not listed.members
    assert listed.refusals[0].reason == "it tried to join, without a right to"


async def test_an_invitation_that_is_not_used_up_by_wrong_tries_still_counts(house: House) -> None:
    right = Invite.read(await house.invite(Role.WORKER))
    wrong = replace(right, secret=b"guess" * 3 + b"!")
    for _ in range(4):
        with pytest.raises(InviteError):
            await joining.join(wrong, house.machine("thief"), "thief", 0)
    await joining.join(right, house.machine("attic"), "attic", 0)


async def test_a_restart_of_the_scheduler_voids_invitations_and_keeps_members(
    short_tmp: Path,
) -> None:
    async with running_house(short_tmp) as house:
        await house.join(house.machine("attic"), Role.WORKER)
        invite = Invite.read(await house.invite(Role.WORKER))
        pool = house.daemon.pairing.pool
    async with running_house(short_tmp) as house:
        with pytest.raises(Unreachable):
            await joining.join(invite, house.machine("shed"), "shed", 0)
        assert [member.name for member in (await house.listed()).members] == ["attic"]
        assert house.daemon.pairing.pool == pool


@contextlib.asynccontextmanager
async def recorded_relay(address: str) -> AsyncIterator[tuple[str, bytearray]]:
    """A way to an address through something that reads along; the bytes that the caller sends."""
    host, port = split_host_port(address)
    heard = bytearray()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)

        async def onward() -> None:
            while data := await reader.read(65_536):
                heard.extend(data)
                far_writer.write(data)
            far_writer.close()

        async def back() -> None:
            while data := await far_reader.read(65_536):
                writer.write(data)
            writer.close()

        await asyncio.gather(onward(), back(), return_exceptions=True)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


async def test_neither_the_secret_nor_the_name_goes_over_the_wire_in_clear(house: House) -> None:
    line = await house.invite(Role.CLIENT)
    invite = Invite.read(line)
    home = house.machine("couch")
    async with recorded_relay(invite.addresses[0]) as (address, heard):
        await joining.join(replace(invite, addresses=(address,)), home, "couch-of-grandma", 0)
    assert heard
    for secret in (invite.secret, line.rpartition("/")[2].encode(), b"grandma", b"PRIVATE KEY"):
        assert secret not in heard


async def test_a_joiner_sends_nothing_to_another_pool(short_tmp: Path) -> None:
    (short_tmp / "a").mkdir()
    (short_tmp / "b").mkdir()
    async with running_house(short_tmp / "a") as ours, running_house(short_tmp / "b") as theirs:
        invite = Invite.read(await ours.invite(Role.WORKER))
        other = Invite.read(await theirs.invite(Role.WORKER))
        fooled = replace(invite, addresses=other.addresses)
        home = ours.machine("attic")
        with pytest.raises(NotPaired, match="Nothing was sent"):
            await joining.join(fooled, home, "attic", 0)
        assert not home.identity_file(Role.WORKER).exists()
        assert not (await theirs.listed()).members


async def test_a_joiner_sends_nothing_to_who_shows_our_authority_but_has_not_its_key(
    house: House, short_tmp: Path
) -> None:
    (short_tmp / "thief").mkdir()
    async with running_house(short_tmp / "thief") as thief:
        invite = Invite.read(await house.invite(Role.WORKER))
        other = Invite.read(await thief.invite(Role.WORKER))
        # The authority's certificate is public: anybody may show it.
        assert house.daemon.pairing.identity is not None
        thief.daemon.pairing._enrolment._authority = house.daemon.pairing.identity.authority
        fooled = replace(invite, addresses=other.addresses)
        with pytest.raises(NotPaired, match="Nothing was sent"):
            await joining.join(fooled, house.machine("attic"), "attic", 0)


async def test_the_second_address_is_tried_where_the_first_does_not_answer(house: House) -> None:
    invite = Invite.read(await house.invite(Role.CLIENT))
    longer = replace(invite, addresses=("127.0.0.1:9", *invite.addresses))
    await joining.join(longer, house.machine("couch"), "couch", 0)


async def test_a_proof_for_one_key_is_worth_nothing_for_another(house: House) -> None:
    first, second = (wire.proof(wire.hashed(b"s" * 16), key) for key in (b"key", b"other key"))
    assert first != second
    assert wire.proof(wire.hashed(b"t" * 16), b"key") != first


async def test_no_log_and_no_error_holds_a_secret(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    line = await house.invite(Role.WORKER)
    invite = Invite.read(line)
    await joining.join(invite, house.machine("attic"), "attic", 0)
    said = [record.getMessage() for record in caplog.records]
    with pytest.raises((InviteError, Unreachable)) as refused:
        await joining.join(invite, house.machine("shed"), "shed", 0)
    with pytest.raises(InviteError) as damaged:
        Invite.read(line[:-1])
    everything = "\n".join([*said, str(refused.value), str(damaged.value), repr(invite)])
    assert "joined" in everything
    assert line.rpartition("/")[2] not in everything
    assert invite.secret.hex() not in everything
