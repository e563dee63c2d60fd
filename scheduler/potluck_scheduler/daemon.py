"""The scheduler daemon: wires the parts of one pool together and keeps them running."""

from __future__ import annotations

import asyncio
import logging

from potluck_proto import daemon, network
from potluck_proto.doors import Doors
from potluck_proto.errors import StoreError
from potluck_proto.home import Home
from potluck_proto.ids import NodeId
from potluck_proto.limits import Limits
from potluck_proto.pulse import Pulse
from potluck_proto.refusals import Refusals
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.added import AddedWorkers
from potluck_scheduler.answer_store import AnswerStore
from potluck_scheduler.benchmarks import Benchmarks
from potluck_scheduler.conductor import Conductor
from potluck_scheduler.convert import node_from_proto
from potluck_scheduler.core.events import NodeLost, NodeSuspected, NodeUpdated
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.database import Database
from potluck_scheduler.discovery import Discovery
from potluck_scheduler.generations import Generations
from potluck_scheduler.members import Member
from potluck_scheduler.nodes import NodeRegistry
from potluck_scheduler.nodes_service import Gatehouse
from potluck_scheduler.pairing import Pairing
from potluck_scheduler.reach import Reach
from potluck_scheduler.service import SchedulerService
from potluck_scheduler.settings import SchedulerSettings
from potluck_scheduler.shelf import ChatShelf
from potluck_scheduler.speed_store import SpeedStore
from potluck_scheduler.store import ChatStore

log = logging.getLogger(__name__)

PURGE_SECONDS = 3600.0
STOP_SECONDS = 0.5
"""What open calls get to end when the daemon stops."""

SPEEDS_SECONDS = 60.0
"""How often what was learned of speeds is stored."""


class SchedulerDaemon:
    """The scheduler of one pool.

    Args:
        home: Where its state is; must be prepared.
        settings: How it behaves.
        limits: What callers may cost.
        validate: Check the core's invariants after every event; for tests.
    """

    def __init__(
        self,
        home: Home,
        settings: SchedulerSettings,
        limits: Limits | None = None,
        *,
        validate: bool = False,
    ) -> None:
        limits = limits or Limits()
        self._home = home
        self._settings = settings
        self._validate = validate
        self._pulse = Pulse()
        self._background = daemon.Background()
        self.database = Database(home.chat_store)
        self.store = ChatStore(self.database)
        self._shelf = ChatShelf(self.database)
        self._speeds = SpeedStore(self.database)
        self._benchmarks = Benchmarks(self.database)
        refusals = Refusals(self._pulse.beat)
        self._doors = Doors(
            lambda server: pb_grpc.add_SchedulerServiceServicer_to_server(self._service, server),
            home.scheduler_socket.parent,
            limits,
            refusals,
        )
        self.pairing = Pairing(home, settings, limits, self._doors, refusals, self._on_joined)
        self.nodes = NodeRegistry(
            home.node_id(),
            reach=Reach(self.pairing),
            certify=lambda node_id, request: self.pairing.renewed(
                self.pairing.worker(node_id), request
            ),
            on_state=self._on_state,
            on_suspect=self._on_suspect,
            on_lost=self._on_lost,
            changed=self._pulse.beat,
        )
        discovery = Discovery(
            home.node_id(),
            lambda: self.pairing.pool,
            found=lambda address: self.nodes.add(address, "zeroconf"),
            gone=lambda address: self.nodes.remove(address, "zeroconf"),
            changed=self._pulse.beat,
        )
        added = AddedWorkers(home.added_workers_file)
        self._gatehouse = Gatehouse(self.nodes, self.pairing, discovery, added, refusals, limits)

    async def run(self) -> None:
        """Serve until a signal, or until nobody used it for long."""
        await self.start()
        print("ready", network.unix_address(self._home.scheduler_socket), flush=True)
        try:
            await daemon.until_stopped_or_idle(self._in_use, self._settings.idle_exit_seconds)
        finally:
            await self.stop()

    def _in_use(self) -> bool:
        service = self._service
        return bool(service.viewers or service.bringing or self.generations.active())

    async def start(self) -> None:
        """Open the store and the socket, look for workers. Raises `PotluckError`."""
        await self.database.open()
        await self._benchmarks.load()
        self._wire(
            Scheduler(
                self._settings.default_model,
                limits=self._settings.limits(),
                speeds=await self._speeds.load(),
                validate=self._validate,
            )
        )
        self.generations.restore(await self.store.unfinished())
        await self.pairing.start()
        await self._doors.open_local(self._home.scheduler_socket)
        for work in (
            self._conductor.run(),
            self.generations.run(),
            self.pairing.keep_renewed(),
            self._keep_speeds(),
            self._purge_often(),
        ):
            self._background.keep(work)
        self.nodes.add(network.unix_address(self._home.worker_socket), "local")
        for address in (*self._settings.workers, *self._gatehouse.added.all()):
            self.nodes.add(address, "static")
        for member in self.pairing.members:
            self._on_joined(member)
        await self._gatehouse.discovery.start()
        log.info("listening on %s", self._home.scheduler_socket)

    def _wire(self, core: Scheduler) -> None:
        """Put the parts around the core together."""
        self._conductor = Conductor(core, self.nodes, self._home.logs / "story.pickle")
        self.generations = Generations(
            self._conductor,
            self.nodes,
            AnswerStore(self.database),
            self._on_chat,
            move=self._settings.move,
        )
        self._service = SchedulerService(
            self._home,
            self._settings,
            self._conductor,
            self.database,
            self.generations,
            self._pulse,
            self._gatehouse,
            self._benchmarks,
        )

    async def stop(self) -> None:
        """Close the socket, leave the answers on disk, let go of the workers."""
        await self.pairing.close()
        await self._doors.stop(STOP_SECONDS)
        await self._service.close()
        await self._gatehouse.discovery.stop()
        await self.generations.close()
        await self._background.close()
        await self._conductor.close()
        await self.nodes.close()
        await self._save_speeds()
        await self.database.close()

    async def _purge_often(self) -> None:
        """Delete for good, now and then, what can no longer be restored."""
        while True:
            try:
                if count := await self._shelf.purge():
                    log.info("%d deleted chats are gone for good", count)
            except StoreError as error:
                log.warning("deleted chats are not purged: %s", error.message)
            await asyncio.sleep(PURGE_SECONDS)

    def _on_joined(self, member: Member) -> None:
        """Look for a worker where it was when it joined; zeroconf may know better."""
        if member.address:
            self.nodes.add(member.address, "paired")

    async def _keep_speeds(self) -> None:
        while True:
            await asyncio.sleep(SPEEDS_SECONDS)
            await self._save_speeds()

    async def _save_speeds(self) -> None:
        """Store what was learned since the last time."""
        try:
            await self._speeds.save(self._conductor.core.speeds.take_changed())
        except StoreError as error:
            log.warning("speeds are not stored: %s", error.message)

    def _on_state(self, state: types.NodeState) -> None:
        self._conductor.tell(NodeUpdated(node_from_proto(state)))

    def _on_suspect(self, node_id: NodeId) -> None:
        self._conductor.tell(NodeSuspected(node_id))

    def _on_lost(self, node_id: NodeId) -> None:
        self._conductor.tell(NodeLost(node_id))

    def _on_chat(self) -> None:
        self._service.chats_changed()
