"""The worker daemon: wires the parts of one node together and keeps them running."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine

import grpc

from potluck_proto import daemon, network
from potluck_proto.home import Home
from potluck_proto.pulse import Pulse
from potluck_proto.record import OPEN_CLUSTER, WorkerRecord
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.advertise import Advertiser
from potluck_worker.cards import Cards
from potluck_worker.fitting import Fitter
from potluck_worker.hardware import Memory, accelerator_kind, measure_memory
from potluck_worker.installed import Engines
from potluck_worker.manager import ModelManager
from potluck_worker.measurements import Measurements
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
        measure: Returns the machine's memory; replaced in tests.

    Attributes:
        addresses: Where it listens, once started.
    """

    def __init__(
        self,
        home: Home,
        settings: WorkerSettings,
        measure: Callable[[], Memory] = measure_memory,
    ) -> None:
        self._home = home
        self._settings = settings
        self._node_id = home.node_id()
        self._pulse = Pulse()
        self._tasks: list[asyncio.Task[None]] = []
        self.addresses: list[str] = []
        self._engines = Engines(settings.vllm_python, home.root / "packages")
        self.pool = MemoryPool(
            Cards(),
            margin_bytes=settings.memory_margin_bytes,
            card_margin_bytes=settings.card_margin_bytes,
            measure=measure,
        )
        version = self._engines.llama.version
        self._measurements = Measurements(home.root / "measurements.json", version)
        self.store = ModelStore(
            home.models,
            settings.model_paths,
            home.root / "inspections.json",
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
        reporter = NodeReporter(
            self._node_id, settings, self._engines, self.store, self.manager, self.pool
        )
        self._service = WorkerService(
            self.store, self.manager, fitter, self.pool, reporter, self._pulse, home.logs
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
        return bool(self._service.watchers or self._service.generations)

    async def start(self) -> None:
        """Look at the models, open the listeners, tell the network. Raises `PotluckError`."""
        self._server = grpc.aio.server(options=network.SERVER_OPTIONS)
        pb_grpc.add_WorkerServiceServicer_to_server(self._service, self._server)
        host, port = self._listen()
        await self._engines.look()
        await self.pool.cards.look(vllm_has_cards=self._engines.vllm_has_cards)
        await self.store.scan()
        await self._server.start()
        self._advertiser = Advertiser(self._record(), host, port)
        self._keep(self._rescan())
        self._keep(self._yield_memory())
        self._keep(self._look_at_cards())
        self._keep(self._announce())
        log.info("listening on %s", ", ".join(self.addresses))

    async def stop(self) -> None:
        """Take leave of the network, end the answers, free the models, end the calls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._advertiser.stop()
        await self.manager.close(STOP_SECONDS)
        self._measurements.save()
        await self._server.stop(STOP_SECONDS)
        self._home.worker_socket.unlink(missing_ok=True)

    def _listen(self) -> tuple[str, int]:
        """Open the listeners; return host and port of the one for other machines, if any."""
        network.listen_unix(self._server, self._home.worker_socket)
        self.addresses = [network.unix_address(self._home.worker_socket)]
        if not self._settings.listen:
            return "", 0
        host, port = network.split_host_port(self._settings.listen)
        network.check_listener(host, self._settings.insecure_lan)
        port = network.listen_tcp(self._server, host, port)
        self.addresses.append(f"{host}:{port}")
        if not network.is_loopback(host):
            warning = network.INSECURE_LAN_WARNING.format(what=f"The worker on {host}:{port}")
            log.warning(warning)
            print(warning, file=sys.stderr, flush=True)
        return host, port

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(SCAN_SECONDS)
            try:
                await self.store.scan()
                await asyncio.to_thread(self._measurements.save)
            except OSError as error:
                log.warning("cannot look for models: %s", error)

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
        """Tell the network, and again when free memory changed much."""
        await self._advertiser.start()
        told = self._record()
        while True:
            await asyncio.sleep(ANNOUNCE_SECONDS)
            record = self._record()
            if abs(record.memory_free_mib - told.memory_free_mib) > told.memory_total_mib / 10:
                await self._advertiser.update(record)
                told = record

    def _record(self) -> WorkerRecord:
        memory = self.pool.memory()
        default = OPEN_CLUSTER if self._settings.insecure_lan else self._home.cluster_id()
        return WorkerRecord(
            node_id=self._node_id,
            name=self._settings.name,
            cluster=self._settings.cluster or default,
            engines=tuple(engine.name for engine in self._engines.all if engine.available),
            accelerator=accelerator_kind(),
            memory_total_mib=memory.total_bytes // MIB,
            memory_free_mib=memory.free_bytes // MIB,
        )
