"""The worker daemon: wires the parts of one node together and keeps them running."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from potluck_proto import daemon, network
from potluck_proto.doors import Doors
from potluck_proto.home import Home
from potluck_proto.identity import Role
from potluck_proto.lan import Advertiser
from potluck_proto.limits import Limits
from potluck_proto.pulse import Pulse
from potluck_proto.record import Record
from potluck_proto.refusals import Refusals
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.cards import Cards
from potluck_worker.fitting import Fitter
from potluck_worker.hardware import Memory, accelerator_kind, measure_memory
from potluck_worker.installed import Engines
from potluck_worker.library.hashes import Hashes
from potluck_worker.library.pulls import Pulls
from potluck_worker.library.service import Library
from potluck_worker.manager import ModelManager
from potluck_worker.measurements import Measurements
from potluck_worker.membership import Membership
from potluck_worker.models import ModelStore
from potluck_worker.pool import MemoryPool
from potluck_worker.service import WorkerService
from potluck_worker.settings import WorkerSettings
from potluck_worker.state import NodeReporter

log = logging.getLogger(__name__)

SCAN_SECONDS = 3.0
"""How soon a new model file is seen."""

YIELD_SECONDS = 0.5
"""How soon models make way for other programs."""

CARDS_SECONDS = 30.0
ANNOUNCE_SECONDS = 30.0
STOP_SECONDS = 1.0
"""What answers, and then open calls, get to end when the daemon stops."""

MIB = 2**20


class WorkerDaemon:
    """One node of a pool.

    Args:
        home: Where its state is; must be prepared.
        settings: How it behaves.
        limits: What callers may cost.
        measure: Returns the machine's memory; replaced in tests.
    """

    def __init__(
        self,
        home: Home,
        settings: WorkerSettings,
        limits: Limits | None = None,
        measure: Callable[[], Memory] = measure_memory,
    ) -> None:
        self._home = home
        self._settings = settings
        self._node_id = home.node_id()
        self._pulse = Pulse()
        self._background = daemon.Background()
        self._engines = Engines(
            settings.vllm_python, home.root / "packages", home.root / "architectures.json"
        )
        self.pool = MemoryPool(
            Cards(),
            margin_bytes=settings.memory_margin_bytes,
            card_margin_bytes=settings.card_margin_bytes,
            measure=measure,
        )
        version = self._engines.llama.version
        self._measurements = Measurements(home.root / "measurements.json", version)
        self.store = ModelStore(
            home,
            settings=settings,
            measurements=self._measurements,
            engines=self._engines,
            room=self.pool.room_when_empty,
            changed=self._pulse.beat,
        )
        fitter = Fitter(settings, self.store, self.pool, self._measurements, self._engines)
        self.manager = ModelManager(
            settings,
            home.logs,
            self._engines,
            self.pool,
            self._measurements,
            fitter.estimate,
            self._pulse.beat,
        )
        hashes = Hashes(home.root / "hashes.json")
        self._pulls = Pulls(home, self.store, hashes, self.pool.room_when_empty, self._pulse.beat)
        refusals = Refusals(self._pulse.beat)
        library = Library(home, self.store, self.manager, hashes, self._pulls)
        reporter = NodeReporter(
            self._node_id, settings, self._engines, self.pool, library, refusals
        )
        self._advertiser = Advertiser()
        self._doors = Doors(
            lambda server: pb_grpc.add_WorkerServiceServicer_to_server(self._service, server),
            home.worker_socket.parent,
            limits or Limits(),
            refusals,
        )
        self.membership = Membership(home, settings.listen, self._doors, self._pulse.beat)
        self._service = WorkerService(
            fitter, self.pool, reporter, self._pulse, home.logs, self.membership, library
        )

    async def run(self) -> None:
        """Serve until a signal, or until nobody used it for long."""
        await self.start()
        print("ready", *self.addresses, flush=True)
        try:
            await daemon.until_stopped_or_idle(self._in_use, self._settings.idle_exit_seconds)
        finally:
            await self.stop()

    def _in_use(self) -> bool:
        # A pool counts on its workers, also when its scheduler is away.
        used = self._service.watchers or self._service.generations or self._pulls.under_way
        return bool(used or self.membership.pool)

    async def start(self) -> None:
        """Open the doors, look at the models, tell the network. Raises `PotluckError`."""
        await self.membership.look()
        await self._doors.open_local(self._home.worker_socket)
        await self._engines.look()
        await self.pool.cards.look(vllm_has_cards=self._engines.vllm_has_cards)
        # Other programs may have hundreds of models, which come to the list one by one.
        await self.store.scan(caches=False)
        self._background.keep(self._rescan())
        self._background.keep(self._yield_memory())
        self._background.keep(self._look_at_cards())
        self._background.keep(self.membership.keep_looking(SCAN_SECONDS))
        self._background.keep(self._announce())
        log.info("listening on %s", ", ".join(self.addresses))

    @property
    def addresses(self) -> list[str]:
        """Where it listens, once started."""
        found = [network.unix_address(self._home.worker_socket)]
        if port := self.membership.port:
            found.append(network.join_host_port(self.membership.listen.host or "*", port))
        return found

    async def stop(self) -> None:
        """Take leave of the network, end the answers, free the models, end the calls."""
        await self._background.close()
        await self._advertiser.stop()
        await self._pulls.close()
        await self.manager.close(STOP_SECONDS)
        self._measurements.save()
        await self._doors.stop(STOP_SECONDS)

    async def _rescan(self) -> None:
        while True:
            try:
                await self.store.scan()
                # Only of safetensors is it a question which engine runs them.
                checkpoints = any(model.engine == "vllm" for model in self.store.models)
                if checkpoints and await self._engines.learn_architectures():
                    await self.store.scan()
                await asyncio.to_thread(self._measurements.save)
            except OSError as error:
                log.warning("cannot look for models: %s", error)
            await asyncio.sleep(SCAN_SECONDS)

    async def _yield_memory(self) -> None:
        while self._settings.yield_memory:
            await asyncio.sleep(YIELD_SECONDS)
            await self.manager.yield_memory()

    async def _look_at_cards(self) -> None:
        """Ask the engine again what is free on cards of which nothing else knows it."""
        while self.pool.cards.need_looks:
            await asyncio.sleep(CARDS_SECONDS)
            await self.pool.cards.look()

    async def _announce(self) -> None:
        """Tell the network, and again when free memory or the membership changed much.

        A worker that came up for one chat is nobody's business.
        """
        told = None
        while True:
            if self.membership.pool or not self._settings.idle_exit_seconds:
                record, port = self._record(), self.membership.port
                if told is None or _differ(record, told[0]) or port != told[1]:
                    await self._advertiser.tell(record, self.membership.listen.host, port)
                    told = record, port
            await self._pulse.wait(ANNOUNCE_SECONDS)

    def _record(self) -> Record:
        memory = self.pool.memory()
        return Record(
            role=Role.WORKER,
            node_id=self._node_id,
            name=self._settings.name,
            pool=self.membership.pool,
            engines=tuple(engine.name for engine in self._engines.all if engine.available),
            accelerator=accelerator_kind(),
            memory_total_mib=memory.total_bytes // MIB,
            memory_free_mib=memory.free_bytes // MIB,
        )


def _differ(record: Record, told: Record) -> bool:
    """Say whether a record is worth telling after another."""
    moved_mib = abs(record.memory_free_mib - told.memory_free_mib)
    return record.pool != told.pool or moved_mib > record.memory_total_mib / 10
