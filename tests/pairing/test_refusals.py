from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pairing.conftest import House, ask, running_house
from pairing.forging import STRANGER, forged
from potluck_proto import tls
from potluck_proto.errors import BadRequest, NotAllowed, NotPaired, PotluckError
from potluck_proto.home import Home, write_private
from potluck_proto.identity import Identity, Role
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import worker_pb2 as worker
from potluck_proto.v1 import worker_pb2_grpc
from potluck_scheduler.authority import Authority


async def knock(port: int, identity: Identity) -> None:
    """Call a worker with some identity, as a scheduler does. Raises `PotluckError`."""
    peer = await tls.greet(f"127.0.0.1:{port}", identity)
    async with tls.channel(f"127.0.0.1:{port}", identity, peer.server_name) as channel:
        await worker_pb2_grpc.WorkerServiceStub(channel).Describe(worker.DescribeRequest())


@pytest.fixture
def anybody(house: House, short_tmp: Path) -> Callable[[str], Awaitable[Identity]]:
    """Makes the identities of those who must not get in."""

    async def make(kind: str) -> Identity:
        if kind in ("client", "worker"):
            return (await house.join(house.machine(kind), Role(kind), kind)).identity
        return forged(kind, house.home.authority_file, short_tmp)

    return make


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("self-signed", "its certificate is self-signed"),
        ("of another pool", "its certificate is of another pool"),
        ("ran out", "its certificate ran out"),
        ("not yet", "its certificate does not count yet: compare the clocks"),
        ("worker", "its certificate is for another role"),
        ("client", "client is a client and no scheduler"),
    ],
)
async def test_a_worker_turns_away_all_but_its_scheduler_and_says_so_once(
    house: House,
    anybody: Callable[[str], Awaitable[Identity]],
    caplog: pytest.LogCaptureFixture,
    kind: str,
    reason: str,
) -> None:
    caplog.set_level(logging.WARNING)
    daemon = await house.paired_worker()
    identity = await anybody(kind)
    for _ in range(3):
        with pytest.raises(NotPaired):
            await knock(daemon.membership.port, identity)
    said = [record.getMessage() for record in caplog.records if reason in record.getMessage()]
    assert said == [f"turned away 127.0.0.1: {reason}"]
    node = await shown_refusal(house)
    refusals = {refusal.reason: refusal.count for refusal in node.state.refusals}
    assert refusals == {reason: 3}
    assert await ask(house.owner) == "Hello from attic."


async def shown_refusal(house: House) -> pb.Node:
    """Wait until the pool shows three refusals of its worker."""
    async for response in house.owner.watch_pool():
        for node in response.nodes if response is not None else ():
            if sum(refusal.count for refusal in node.state.refusals) >= 3:
                return node
    raise AssertionError("the pool is gone")


async def test_without_a_certificate_nothing_answers(house: House) -> None:
    daemon = await house.paired_worker()
    await house.paired_client()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for port in (daemon.membership.port, house.daemon._doors.port_number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not await reader.read()
        writer.close()
        with pytest.raises(OSError, match=r".*"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            if not await reader.read():
                raise ConnectionResetError("closed without a word")
        writer.close()


async def test_an_impostor_where_a_worker_was_is_refused_and_shown(
    house: House, short_tmp: Path
) -> None:
    theirs = short_tmp / "theirs"
    theirs.mkdir()
    await house.join(house.machine("attic"), Role.WORKER)
    async with running_house(theirs) as other:
        impostor = await other.paired_worker("impostor")
        node = await house.add(f"127.0.0.1:{impostor.membership.port}")
        assert node.health == pb.NODE_HEALTH_REFUSED
        assert "another pool" in node.problem.message
        assert "potluck invite" in node.problem.message


async def test_a_worker_that_says_it_is_another_is_refused(house: House) -> None:
    daemon = await house.paired_worker()
    await house.remove("attic")
    home = house.machine("attic")
    await house.join(home, Role.WORKER)
    await daemon.membership.look()
    (home.root / "node-id").write_text("0" * 16)
    liar = await house.worker(home, "liar")
    node = await house.add(f"127.0.0.1:{liar.membership.port}")
    assert node.health == pb.NODE_HEALTH_REFUSED
    assert "says that it is 0000000000000000" in node.problem.message


async def test_a_removed_worker_is_let_go_at_once_and_not_taken_back(house: House) -> None:
    daemon = await house.paired_worker()
    address = f"127.0.0.1:{daemon.membership.port}"
    await house.remove("attic")
    assert not (await house.listed()).members
    node = await house.add(address)
    assert node.health == pb.NODE_HEALTH_REFUSED
    assert "attic" in node.problem.message
    assert "was removed from this pool" in node.problem.message
    assert daemon._service.watchers == 0


async def test_a_removed_client_loses_what_it_has_open_at_once(house: House) -> None:
    client = await house.paired_client()
    opened = asyncio.Event()

    async def watch() -> None:
        async for response in client.watch_pool():
            if response is not None:
                opened.set()

    watching = asyncio.create_task(watch())
    await opened.wait()
    await house.remove("couch")
    with pytest.raises(NotPaired, match="couch was removed from this pool"):
        await watching
    with pytest.raises(NotPaired, match="was removed"):
        await client.check_version()


async def test_of_several_machines_of_one_name_none_is_removed_before_it_is_said_which(
    house: House,
) -> None:
    home = house.machine("couch")
    client = house.client(home, (await house.join(home, Role.CLIENT, "attic")).identity)
    await house.paired_worker("attic")
    with pytest.raises(BadRequest, match="Several machines are called 'attic': 127"):
        await house.remove("attic")
    await client.check_version()
    couch = next(member for member in (await house.listed()).members if member.role == "client")
    await house.remove(couch.node_id)
    with pytest.raises(NotPaired):
        await client.check_version()
    (left,) = (await house.listed()).members
    assert left.role == "worker"


async def test_the_other_clients_notice_nothing_of_a_removal(house: House) -> None:
    first, second = await house.paired_client("first"), await house.paired_client("second")
    await first.check_version()
    await house.remove("second")
    await first.check_version()
    with pytest.raises(NotPaired):
        await second.check_version()


async def test_who_was_removed_and_is_paired_again_comes_in_with_the_new_certificate_alone(
    house: House,
) -> None:
    home = house.machine("couch")
    old = (await house.join(home, Role.CLIENT)).identity
    kept = house.folder / "kept.pem"
    write_private(kept, old.path.read_bytes())
    await house.remove("attic")
    new = (await house.join(home, Role.CLIENT)).identity
    await house.client(home, new).check_version()
    with pytest.raises(NotPaired, match="was removed"):
        await house.client(home, Identity.read(kept)).check_version()


async def test_a_client_cannot_decide_who_belongs_to_the_pool(house: House) -> None:
    client = await house.paired_client()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.call(client.stub.CreateInvite, pb.CreateInviteRequest(role="worker")),
        lambda: client.call(client.stub.RemoveNode, pb.RemoveNodeRequest(node="x")),
        lambda: client.call(client.stub.AddNode, pb.AddNodeRequest(address="x")),
    ]
    for call in calls:
        with pytest.raises(NotAllowed, match="A client may not do this"):
            await call()


async def test_nobody_is_told_to_stop_by_a_name_that_is_not_there(house: House) -> None:
    with pytest.raises(PotluckError, match="No node is called"):
        await house.remove("nobody")


def test_a_machine_off_the_network_can_still_read_what_it_is(short_tmp: Path) -> None:
    home = Home(short_tmp)
    home.prepare()
    made = Authority.open(home.authority_file).identity(short_tmp / "s.pem", STRANGER)
    assert made.peer == STRANGER
    assert Authority.open(home.authority_file).pool == made.pool
