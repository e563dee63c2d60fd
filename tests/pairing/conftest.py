"""Real daemons in this process, on loopback ports, paired as people pair them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from potluck_proto.home import Home
from potluck_proto.identity import Identity, Role
from potluck_proto.invite import Invite
from potluck_proto.limits import Limits
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.daemon import SchedulerDaemon
from potluck_scheduler.settings import SchedulerSettings
from potluck_tui import joining
from potluck_tui.client import PoolClient
from potluck_tui.joining import Joined, remembered_address
from potluck_worker.daemon import WorkerDaemon
from potluck_worker.settings import WorkerSettings

LOOPBACK = "127.0.0.1:0"

_INSPECTED: list[bytes] = []
"""What the first worker found out about the starter model, so that each other one need not."""


@dataclass
class House:
    """A scheduler, and machines that may join it.

    Attributes:
        home: The scheduler's.
        daemon: The scheduler.
        owner: A client at the scheduler's own socket.
    """

    folder: Path
    home: Home
    daemon: SchedulerDaemon
    owner: PoolClient
    stack: AsyncExitStack = field(repr=False)

    def machine(self, name: str) -> Home:
        """Return the home of another machine."""
        home = Home(self.folder / name)
        home.prepare()
        return home

    async def invite(self, role: Role) -> str:
        """Return the line of an invitation."""
        request = pb.CreateInviteRequest(role=role)
        return (await self.owner.call(self.owner.stub.CreateInvite, request)).line

    async def join(self, home: Home, role: Role, name: str = "attic") -> Joined:
        """Join as the people of a machine do."""
        return await joining.join(Invite.read(await self.invite(role)), home, name, 0)

    async def worker(self, home: Home, name: str = "attic") -> WorkerDaemon:
        """Start a worker, with a model of the fake engine that is called as it is."""
        (home.models / f"{name}.fake.toml").write_text(f'text = "Hello from {name}."')
        known = home.root / "inspections.json"
        if _INSPECTED:
            known.write_bytes(_INSPECTED[0])
        daemon = WorkerDaemon(home, WorkerSettings(name=name, listen=LOOPBACK))
        await daemon.start()
        if not _INSPECTED and known.exists():
            _INSPECTED.append(known.read_bytes())
        self.stack.push_async_callback(daemon.stop)
        return daemon

    async def paired_worker(self, name: str = "attic") -> WorkerDaemon:
        """Return a worker that joined and is ready."""
        home = self.machine(name)
        await self.join(home, Role.WORKER, name)
        daemon = await self.worker(home, name)
        await self.add(f"127.0.0.1:{daemon.membership.port}")
        await self.until(name, pb.NODE_HEALTH_READY)
        return daemon

    async def paired_client(self, name: str = "couch") -> PoolClient:
        """Return a client that joined."""
        home = self.machine(name)
        joined = await self.join(home, Role.CLIENT, name)
        return self.client(home, joined.identity)

    def client(self, home: Home, identity: Identity) -> PoolClient:
        """Return a client with some identity."""
        client = PoolClient(remembered_address(home), identity)
        self.stack.push_async_callback(client.close)
        return client

    async def add(self, address: str) -> pb.Node:
        """Add a worker by address."""
        request = pb.AddNodeRequest(address=address)
        return (await self.owner.call(self.owner.stub.AddNode, request)).node

    async def remove(self, name: str) -> None:
        """Remove a machine."""
        await self.owner.call(self.owner.stub.RemoveNode, pb.RemoveNodeRequest(node=name))

    async def listed(self) -> pb.ListNodesResponse:
        """Return what `potluck nodes` shows."""
        return await self.owner.call(self.owner.stub.ListNodes, pb.ListNodesRequest())

    async def until(self, name: str, health: pb.NodeHealth.ValueType) -> pb.Node:
        """Wait until a worker, by name or address, is in some health."""
        async for response in self.owner.watch_pool():
            for node in response.nodes if response is not None else ():
                if name in (node.state.name, node.address) and node.health == health:
                    return node
        raise AssertionError("the pool is gone")


async def ask(client: PoolClient, model: str = "attic") -> str:
    """Return the answer to a question."""
    submitted = await client.call(client.stub.Submit, pb.SubmitRequest(content="Hi", model=model))
    text = ""
    async for event in client.attach(submitted.generation_id):
        if event is not None:
            text += event.delta.text
            assert not event.end.HasField("error"), event.end.error.message
    return text


@asynccontextmanager
async def running_house(folder: Path, limits: Limits | None = None) -> AsyncIterator[House]:
    """Run a scheduler; nothing of it may be left afterwards."""
    home = Home(folder / "hall")
    home.prepare()
    settings = SchedulerSettings(listen=LOOPBACK, join_listen=LOOPBACK)
    daemon = SchedulerDaemon(home, settings, limits, validate=True)
    await daemon.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(daemon.stop)
        owner = PoolClient(unix_address(home.scheduler_socket))
        stack.push_async_callback(owner.close)
        yield House(folder, home, daemon, owner, stack)
    assert not list(home.scheduler_socket.parent.glob("*.sock"))


@pytest.fixture
async def house(short_tmp: Path) -> AsyncIterator[House]:
    async with running_house(short_tmp) as house:
        yield house
