"""Workers: found, connected to, listened to, and declared lost.

Each address has one connection, which tries for ever while any source names the address. A worker's
`Watch` stream rides the channel that carries the work, so it is the heartbeat as well: what comes
over it is the newest that is known, and may be half a second old.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from potluck_proto import PROTOCOL_VERSION
from potluck_proto.errors import (
    NodeLost,
    NotPaired,
    PotluckError,
    ProtocolMismatch,
    SshError,
    Unreachable,
    from_rpc,
)
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_proto.v1 import worker_pb2_grpc as worker_grpc
from potluck_scheduler.arrivals import Arrival
from potluck_scheduler.calls import failures_in_words
from potluck_scheduler.reach import Reach, Reached
from potluck_scheduler.work import Work

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

log = logging.getLogger(__name__)

SUSPECT_SECONDS = 1.5
LOST_SECONDS = 2.5
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0
CONNECT_SECONDS = 2.0
ROUND_TRIP_SECONDS = 10.0
"""How often the way to a worker and back is measured."""


WatchCall = grpc.aio.UnaryStreamCall[worker.WatchRequest, worker.WatchResponse]


@dataclass(slots=True)
class Connection:
    """One address, and what is known of the worker there."""

    address: str
    sources: set[str] = field(default_factory=set)
    health: pb.NodeHealth.ValueType = pb.NODE_HEALTH_CONNECTING
    state: types.NodeState | None = None
    heard: float = 0.0
    round_trip_seconds: float = 0.0
    """What a call took last, there and back; 0 before the first."""
    problem: PotluckError | None = None
    channel: grpc.aio.Channel | None = None
    work: Work | None = None
    task: asyncio.Task[None] | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    """What the scheduler brings there from other nodes."""

    @property
    def node_id(self) -> NodeId | None:
        """The worker's id, once it has told."""
        return NodeId(self.state.node_id) if self.state is not None else None

    @property
    def alive(self) -> bool:
        """Whether work may be sent there."""
        return self.health in (pb.NODE_HEALTH_READY, pb.NODE_HEALTH_SUSPECT)


class NodeRegistry:
    """All workers that this scheduler knows.

    Args:
        scheduler_id: Who watches, for the workers' logs.
        reach: Opens a channel to an address.
        certify: Returns the next certificate of a worker, for its request.
        on_state: Called with each state of a living worker.
        on_suspect: Called when a worker is silent for longer than it should be.
        on_lost: Called once when a worker is lost.
        changed: Called when anything changed that a viewer sees.
    """

    def __init__(
        self,
        scheduler_id: str,
        *,
        reach: Reach,
        certify: Callable[[NodeId, bytes], bytes],
        on_state: Callable[[types.NodeState], None],
        on_suspect: Callable[[NodeId], None],
        on_lost: Callable[[NodeId], None],
        changed: Callable[[], None],
    ) -> None:
        self._scheduler_id = scheduler_id
        self._reach = reach
        self._certify = certify
        self._on_state = on_state
        self._on_suspect = on_suspect
        self._on_lost = on_lost
        self._changed = changed
        self._connections: dict[str, Connection] = {}

    def add(self, address: str, source: str) -> Connection:
        """Note that a source names an address; connect to a new one."""
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = Connection(address)
            connection.task = asyncio.create_task(self._keep(connection), name=f"node {address}")
        connection.sources.add(source)
        self._changed()
        return connection

    async def remove(self, address: str, source: str) -> None:
        """Note that a source no longer names an address; let go of one that none names."""
        connection = self._connections.get(address)
        if connection is None:
            return
        connection.sources.discard(source)
        # A record that vanished says less than a worker that still talks.
        if not connection.sources and not connection.alive:
            await self._drop(connection)

    async def forget(self, connection: Connection) -> None:
        """Let go of a worker, whoever named it; a source that names it again brings it back."""
        await self._drop(connection)

    async def close(self) -> None:
        """Let go of all workers."""
        for connection in list(self._connections.values()):
            await self._drop(connection)

    def connections(self) -> list[Connection]:
        """Return what a viewer should see: an absent local worker is no news."""
        return [
            connection
            for connection in self._connections.values()
            if connection.state is not None
            or connection.problem is not None
            or connection.sources - {"local"}
        ]

    def find(self, node: str) -> Connection | None:
        """Return a worker by name, id or address; the first of several that have the name."""
        return next(iter(self.named(node)), None)

    def named(self, node: str) -> list[Connection]:
        """Return the workers of a name, or that of an id or address."""
        if (connection := self._connections.get(node)) is not None:
            return [connection]
        return [
            connection
            for connection in self._connections.values()
            if (state := connection.state) and node in (state.name, state.node_id)
        ]

    @contextlib.contextmanager
    def calling(self, node_id: NodeId) -> Iterator[WorkerServiceAsyncStub]:
        """Yield a worker to call; within, calls to it fail in words.

        Raises:
            NodeLost: It is not connected, or its connection broke.
            PotluckError: What the worker says.
        """
        name, connection = self.name(node_id), self._living(node_id)
        if connection is None or connection.channel is None:
            raise NodeLost(f"{name} is not connected any more.")
        with failures_in_words(name):
            yield worker_grpc.WorkerServiceStub(connection.channel)

    def work(self, node_id: NodeId) -> Work | None:
        """Return the stream of work to a living worker."""
        connection = self._living(node_id)
        return connection.work if connection is not None else None

    def name(self, node_id: NodeId) -> str:
        """Return what people call a worker; its id where it is gone."""
        for connection in self._connections.values():
            if connection.state is not None and connection.node_id == node_id:
                return connection.state.name
        return node_id

    @contextlib.contextmanager
    def arriving(self, node_id: NodeId, arrival: Arrival) -> Iterator[None]:
        """List what comes to a worker while it does."""
        connection = self.find(node_id)
        arrivals = connection.arrivals if connection is not None else []
        arrivals.append(arrival)
        try:
            yield
        finally:
            arrivals.remove(arrival)

    def stop_arrival(self, node_id: NodeId, repository: str, variant: str) -> bool:
        """Stop what comes to a worker from another; say whether there was something."""
        connection = self.find(node_id)
        arrivals = connection.arrivals if connection is not None else []
        called = [arrival for arrival in arrivals if arrival.is_called(repository, variant)]
        for arrival in called:
            arrival.stopped = True
        return bool(called)

    @property
    def local_node_id(self) -> NodeId | None:
        """The worker on this machine, where one runs."""
        local = (c for c in self._connections.values() if "local" in c.sources and c.alive)
        return next((connection.node_id for connection in local), None)

    def living_states(self) -> list[types.NodeState]:
        """Return the newest state of each worker that may be sent work."""
        return [c.state for c in self._connections.values() if c.alive and c.state is not None]

    def _living(self, node_id: NodeId) -> Connection | None:
        """Return the connection to a living worker."""
        living = (c for c in self._connections.values() if c.alive)
        return next((connection for connection in living if connection.node_id == node_id), None)

    async def _drop(self, connection: Connection) -> None:
        self._connections.pop(connection.address, None)
        if connection.task is not None:
            connection.task.cancel()
            await asyncio.gather(connection.task, return_exceptions=True)
        self._lose(connection, pb.NODE_HEALTH_LOST)

    async def _keep(self, connection: Connection) -> None:
        """Connect, listen, and connect again, for as long as the address is known."""
        delay_seconds = FIRST_RETRY_SECONDS
        while True:
            try:
                async with self._reach(connection.address) as reached:
                    connection.channel = reached.channel
                    await self._listen(connection, reached)
            except grpc.aio.AioRpcError as error:
                if connection.alive:
                    delay_seconds = FIRST_RETRY_SECONDS
                failure = from_rpc(error, f"The worker at {connection.address}")
                # A local worker that does not run is nothing to report.
                shown = connection.sources != {"local"} or connection.state is not None
                connection.problem = failure if shown else None
                self._lose(connection, pb.NODE_HEALTH_LOST)
            except NodeLost as error:
                connection.problem = error
                self._lose(connection, pb.NODE_HEALTH_LOST)
            except PotluckError as error:
                if connection.problem is None or connection.problem.message != error.message:
                    log.warning("%s", error.message)
                connection.problem = error
                gone = isinstance(error, Unreachable | SshError)
                self._lose(connection, pb.NODE_HEALTH_LOST if gone else pb.NODE_HEALTH_REFUSED)
            finally:
                connection.channel = None
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(delay_seconds * 2, LONGEST_RETRY_SECONDS)

    async def _listen(self, connection: Connection, reached: Reached) -> None:
        """Take the worker's states until its stream breaks or it is silent for too long."""
        stub: WorkerServiceAsyncStub = worker_grpc.WorkerServiceStub(reached.channel)
        name = await self._greet(connection, reached, stub)
        call = stub.Watch(worker.WatchRequest(scheduler_id=self._scheduler_id))
        measuring = asyncio.create_task(_measure_round_trip(connection, stub))
        connection.work = Work(stub, name)
        working = asyncio.create_task(connection.work.run())
        try:
            while response := await self._hear(connection, call, working):
                self._take_in(connection, response.state)
                if response.certificate_request and reached.node_id is not None:
                    certificate = self._certify(reached.node_id, response.certificate_request)
                    await stub.TakeCertificate(
                        worker.TakeCertificateRequest(certificate=certificate),
                        timeout=CONNECT_SECONDS,
                    )
        finally:
            measuring.cancel()
            call.cancel()
            connection.work = None
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _greet(
        self, connection: Connection, reached: Reached, stub: WorkerServiceAsyncStub
    ) -> str:
        """Return the name of the worker at an address. Raises `PotluckError` for a wrong one."""
        hello = await stub.Describe(worker.DescribeRequest(), timeout=CONNECT_SECONDS)
        if hello.protocol_version != PROTOCOL_VERSION:
            raise ProtocolMismatch(
                f"The worker at {connection.address} speaks protocol version "
                f"{hello.protocol_version}, this scheduler {PROTOCOL_VERSION}. Install the same "
                "version of Potluck on both."
            )
        if reached.node_id not in (None, hello.state.node_id):
            raise NotPaired(
                f"The worker at {connection.address} says that it is {hello.state.node_id}; its "
                f"certificate says that it is {reached.node_id}."
            )
        if twin := self._twin(connection, hello.state.node_id):
            raise PotluckError(
                f"{connection.address} is the worker that is connected as {twin.address}."
            )
        log.info("connected to %s at %s", hello.state.name, connection.address)
        return hello.state.name

    def _take_in(self, connection: Connection, state: types.NodeState) -> None:
        """Take in what a worker says of itself, which also says that it lives."""
        state.name = self._unique_name(connection, state)
        connection.state = state
        connection.heard = time.monotonic()
        connection.problem = None
        connection.health = pb.NODE_HEALTH_READY
        self._on_state(state)
        self._changed()

    async def _hear(
        self, connection: Connection, call: WatchCall, working: asyncio.Task[None]
    ) -> worker.WatchResponse | None:
        """Return the worker's next state, `None` at the end of the stream; suspect it meanwhile.

        Raises `NodeLost` for a worker that stays silent, or with which one cannot work.
        """
        reading = asyncio.ensure_future(call.read())
        either = [reading, working]
        try:
            if not await _first(either, SUSPECT_SECONDS):
                if connection.alive and connection.node_id is not None:
                    connection.health = pb.NODE_HEALTH_SUSPECT
                    self._on_suspect(connection.node_id)
                    self._changed()
                await _first(either, LOST_SECONDS - SUSPECT_SECONDS)
            if not reading.done():
                if working.done():
                    raise NodeLost("The connection broke.")
                raise NodeLost(f"It has been silent for {LOST_SECONDS} seconds.")
            response = reading.result()
            return response if isinstance(response, worker.WatchResponse) else None
        finally:
            reading.cancel()

    def _unique_name(self, connection: Connection, state: types.NodeState) -> str:
        """Return a worker's name; the second of one name gets a part of its id."""
        others = (c.state for c in self._connections.values() if c is not connection and c.alive)
        taken = any(other is not None and other.name == state.name for other in others)
        return f"{state.name}-{state.node_id[:4]}" if taken else state.name

    def _twin(self, connection: Connection, node_id: str) -> Connection | None:
        """Return another living connection to the same worker."""
        for other in self._connections.values():
            if other is not connection and other.alive and other.node_id == node_id:
                return other
        return None

    def _lose(self, connection: Connection, health: pb.NodeHealth.ValueType) -> None:
        was_alive, connection.health = connection.alive, health
        if was_alive and connection.node_id is not None:
            if connection.problem is None:
                log.info("let go of %s", connection.address)
            else:
                log.warning("lost %s: %s", connection.address, connection.problem)
            self._on_lost(connection.node_id)
        self._changed()


async def _measure_round_trip(connection: Connection, stub: WorkerServiceAsyncStub) -> None:
    """Measure now and then how long a worker takes to answer; its silence is noticed elsewhere."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while True:
            started = time.monotonic()
            await stub.Describe(worker.DescribeRequest(), timeout=CONNECT_SECONDS)
            connection.round_trip_seconds = time.monotonic() - started
            await asyncio.sleep(ROUND_TRIP_SECONDS)


async def _first(futures: Iterable[asyncio.Future[Any]], timeout_seconds: float) -> bool:
    """Wait until one of several is done; say whether one is."""
    done, _ = await asyncio.wait(
        futures, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
    )
    return bool(done)
