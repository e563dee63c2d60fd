"""The node's state as it is sent to schedulers."""

from __future__ import annotations

import itertools
import os
import time

import psutil

from potluck_proto import __version__
from potluck_proto.ids import NodeId
from potluck_proto.refusals import Refusals
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.convert import accelerator_of
from potluck_worker.convert_model import describe, download
from potluck_worker.engines.sizing import HOST, Card
from potluck_worker.footprint import private_bytes
from potluck_worker.hardware import processor_celsius, processor_name
from potluck_worker.installed import Engines
from potluck_worker.library.service import Library
from potluck_worker.manager import Resident
from potluck_worker.pool import MemoryPool
from potluck_worker.power import ProcessorPower
from potluck_worker.settings import WorkerSettings


class NodeReporter:
    """Puts together what schedulers see of this node; every figure is measured when asked for.

    Args:
        node_id: This installation.
        settings: The worker's settings.
        engines: What is installed here.
        pool: The memory.
        library: The models: in files, in memory, and on their way here.
        refusals: Whom it turned away.
    """

    def __init__(
        self,
        node_id: NodeId,
        settings: WorkerSettings,
        engines: Engines,
        pool: MemoryPool,
        library: Library,
        refusals: Refusals,
    ) -> None:
        self._node_id = node_id
        self._settings = settings
        self._installed = engines
        self._pool = pool
        self._store, self._manager, self._pulls = library.store, library.manager, library.pulls
        self._refusals = refusals
        self._revisions = itertools.count(1)
        self._processor = processor_name()
        self._power = ProcessorPower()
        psutil.cpu_percent()  # the first call only starts the measurement

    def report(self) -> types.NodeState:
        """Return the node as it is now."""
        loaded = [self.loaded_model(resident) for resident in self._manager.residents]
        return types.NodeState(
            node_id=self._node_id,
            name=self._settings.name,
            version=__version__,
            revision=next(self._revisions),
            measured_unix_seconds=time.time(),
            devices=self._devices(sum(model.memory_bytes for model in loaded)),
            engines=self._engines(),
            models=[describe(model) for model in self._store.models],
            loaded=loaded,
            cpu_utilisation=psutil.cpu_percent() / 100,
            draining=self._manager.draining,
            tokens_per_second=sum(model.tokens_per_second for model in loaded),
            queue_length=sum(model.queue_length for model in loaded),
            tags=self._settings.tags,
            refusals=self._refusals.recent(),
            notices=[
                types.Notice(unix_seconds=notice.unix_seconds, text=notice.text)
                for notice in self._manager.notices
            ],
            downloads=map(download, self._pulls.under_way),
        )

    def _devices(self, models_bytes: int) -> list[types.Device]:
        """Return main memory and the cards; what loading leaves free on purpose is not free."""
        free = self._pool.room().free_bytes
        loaded = [resident for resident in self._manager.residents if resident.process.loaded]
        ours_bytes = models_bytes + private_bytes(os.getpid())
        host = types.Device(
            id=HOST,
            name=self._processor,
            accelerator=types.ACCELERATOR_CPU,
            memory_total_bytes=self._pool.total_bytes(HOST),
            memory_free_bytes=free[HOST],
            memory_others_bytes=max(0, self._pool.used_bytes() - ours_bytes),
            temperature_celsius=processor_celsius(),
            watts=self._power.watts(),
        )
        devices = [host, *(self._card(card, free[card.id]) for card in self._pool.cards.known)]
        for device in devices:
            shares = [resident.estimate.on(device.id) for resident in loaded]
            device.weights_bytes = sum(share.weights_bytes for share in shares)
            device.kv_cache_bytes = sum(share.kv_cache_bytes for share in shares)
        return devices

    def _card(self, card: Card, free_bytes: int) -> types.Device:
        reading = self._pool.cards.read(card)
        return types.Device(
            id=card.id,
            name=card.name,
            accelerator=accelerator_of(card.accelerator),
            memory_total_bytes=card.memory_total_bytes,
            memory_free_bytes=free_bytes,
            utilisation=reading.utilisation,
            temperature_celsius=reading.temperature_celsius,
            watts=reading.watts,
            unified=card.unified,
        )

    def _engines(self) -> list[types.EngineDescription]:
        return [
            types.EngineDescription(
                name=engine.name,
                version=engine.version,
                available=engine.available,
                advice=engine.advice,
                accelerators=self._accelerators(engine.name),
            )
            for engine in self._installed.all
        ]

    def _accelerators(self, engine: str) -> list[types.Accelerator.ValueType]:
        """Return what an engine computes on."""
        cards = self._pool.cards
        for_cards = self._installed.vllm_has_cards if engine == "vllm" else cards.llama_has_them
        kinds = {accelerator_of(card.accelerator) for card in cards.known if for_cards}
        return sorted({types.ACCELERATOR_CPU} | kinds)

    def loaded_model(self, resident: Resident) -> types.LoadedModel:
        """Return a model in memory as schedulers see it."""
        process, loaded, stats = resident.process, resident.process.loaded, resident.process.stats
        options, key = resident.estimate.options, resident.model.key
        model = types.LoadedModel(
            name=resident.model.name,
            quantization=resident.model.quantization,
            engine=resident.model.engine,
            state=_model_state(resident),
            load_fraction=process.load_fraction,
            slots_busy=stats.slots_busy,
            queue_length=stats.queue_length,
            tokens_per_second=stats.tokens_per_second,
            process_id=process.process_id,
            pinned=resident.pinned,
            memory_bytes=self._pool.taken_bytes(key),
            memory_booked_bytes=resident.estimate.total_bytes,
            kv_type=options.kv_type or "",
            gpu_layers=options.gpu_layers or 0,
            layers=resident.estimate.layers,
            host_experts=options.host_experts or 0,
            lora_adapters=options.lora_adapters,
        )
        if loaded is not None:
            model.context_length = loaded.context_length
            model.slots = loaded.slots
            model.weights_bytes = loaded.weights_bytes
            model.kv_cache_bytes = loaded.kv_cache_bytes
            model.compute_bytes = loaded.compute_bytes
            model.flash_attention = loaded.flash_attention
            if process.requests_open == 0:
                model.idle_seconds = time.monotonic() - process.idle_since
        return model


def _model_state(resident: Resident) -> types.ModelState.ValueType:
    if resident.draining is not None:
        return types.MODEL_STATE_DRAINING
    return types.MODEL_STATE_READY if resident.process.loaded else types.MODEL_STATE_LOADING
