"""The scheduler daemon: wires the parts of one pool together and keeps them running."""

from __future__ import annotations

import asyncio
import logging
import time

from potluck_proto import daemon, network
from potluck_proto.doors import Doors
from potluck_proto.errors import SchedulerRestarted, StoreError
from potluck_proto.home import Home
from potluck_proto.ids import NodeId
from potluck_proto.limits import Limits
from potluck_proto.pulse import Pulse
from potluck_proto.refusals import Refusals
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.added import AddedWorkers
from potluck_scheduler.convert import node_from_proto
from potluck_scheduler.core.events import NodeLost, NodeUpdated
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
from potluck_scheduler.store import ChatStore

log = logging.getLogger(__name__)

PURGE_SECONDS = 3600.0
STOP_SECONDS = 0.5
"""What open calls get to end when the daemon stops."""


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
        self._pulse = Pulse()
        self._core = Scheduler(settings.default_model, validate=validate)
        self._database = Database(home.chat_store)
        self.store = ChatStore(self._database)
        self._shelf = ChatShelf(self._database)
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
            on_lost=self._on_lost,
            changed=self._pulse.beat,
        )
        self._added = AddedWorkers(home.added_workers_file)
        self._discovery = Discovery(
            home.node_id(),
            lambda: self.pairing.pool,
            found=lambda address: self.nodes.add(address, "zeroconf"),
            gone=lambda address: self.nodes.remove(address, "zeroconf"),
            changed=self._pulse.beat,
        )
        self.generations = Generations(
            self._core, self.nodes, self.store, self._pulse, self._on_chat
        )
        self._service = SchedulerService(
            home,
            self._core,
            self.store,
            self._shelf,
            self.generations,
            self._pulse,
            Gatehouse(self.nodes, self.pairing, self._discovery, self._added, refusals, limits),
            settings.default_model,
        )

    async def run(self) -> None:
        """Serve until a signal, or until nobody used it for long."""
        await self.start()
        print("ready", network.unix_address(self._home.scheduler_socket), flush=True)
        try:
            await daemon.until_stopped_or_idle(self._in_use, self._settings.idle_exit_seconds)
        finally:
            await self.stop()

    def _in_use(self) -> bool:
        return bool(self._service.viewers or self.generations.active())

    async def start(self) -> None:
        """Open the store and the socket, look for workers. Raises `PotluckError`."""
        await self._database.open()
        await self._end_interrupted()
        self._purging = asyncio.create_task(self._purge_often(), name="purge")
        await self.pairing.start()
        await self._doors.open_local(self._home.scheduler_socket)
        self._renewing = asyncio.create_task(self.pairing.keep_renewed())
        self.nodes.add(network.unix_address(self._home.worker_socket), "local")
        for address in (*self._settings.workers, *self._added.all()):
            self.nodes.add(address, "static")
        for member in self.pairing.members:
            self._on_joined(member)
        await self._discovery.start()
        log.info("listening on %s", self._home.scheduler_socket)

    async def stop(self) -> None:
        """Close the socket, leave the answers on disk, let go of the workers."""
        self._renewing.cancel()
        await self.pairing.close()
        await self._doors.stop(STOP_SECONDS)
        await self._discovery.stop()
        await self.generations.close()
        await self.nodes.close()
        self._purging.cancel()
        await self._database.close()

    async def _end_interrupted(self) -> None:
        """End the answers that an earlier scheduler left under way, and keep what they had."""
        error = SchedulerRestarted(
            "The scheduler was restarted in mid-answer; what the model had said is kept. Ask again."
        )
        end = types.End(reason=types.END_REASON_FAILED, error=error.to_proto())
        if count := await self.store.end_interrupted(end):
            log.warning("%d answers were cut off by a restart", count)

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

    def _on_state(self, state: types.NodeState) -> None:
        self._core.handle(NodeUpdated(node_from_proto(state)), time.monotonic())

    def _on_lost(self, node_id: NodeId) -> None:
        self._core.handle(NodeLost(node_id), time.monotonic())

    def _on_chat(self) -> None:
        self._service.chats_changed()
