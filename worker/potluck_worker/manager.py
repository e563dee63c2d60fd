"""The models in memory: loaded once, accounted for, and gone when their engine is.

The worker owns its memory. A load is allowed when what the engine says it takes, and a margin, is
free beyond what was promised to others (`pool.py`); otherwise it is refused with all the numbers.
Where other programs take memory, models that nobody uses make way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import BadRequest, Displaced, Draining, EngineDied, ModelBusy, Stalled
from potluck_worker.crashes import Crashes
from potluck_worker.engine_log import engine_log_path
from potluck_worker.engines.base import Load
from potluck_worker.engines.sizing import AS_PLANNED, Estimate, Options
from potluck_worker.installed import Engines
from potluck_worker.measurements import Measurement, Measurements
from potluck_worker.pool import MemoryPool
from potluck_worker.settings import WorkerSettings
from potluck_worker.stored_model import Key, StoredModel
from potluck_worker.supervisor import EngineProcess

log = logging.getLogger(__name__)

YIELD_SHARE = 0.5
"""Of a margin: with less free, idle models make way, until the whole margin is free again. A load
leaves the whole margin, so that a model does not go as soon as it came."""

NOTICES_KEPT = 8


@dataclass(slots=True)
class Resident:
    """A model that is in memory, or on its way there."""

    model: StoredModel
    process: EngineProcess
    estimate: Estimate
    """How it is held, and what it was promised."""
    asked: Options
    """What the load asked for."""
    pinned: bool
    """It stays when others need room, for as long as it is in memory."""
    loading: asyncio.Task[EngineProcess] | None = None
    draining: asyncio.Task[None] | None = None
    """Set once it takes no new answers; done when its memory is free."""

    def is_what(self, asked: Options) -> bool:
        """Say whether it is held as a request wants it."""
        return asked in (AS_PLANNED, self.asked) or self.estimate.is_what(asked)

    @property
    def idle(self) -> bool:
        """Whether nobody uses it."""
        busy = self.loading or self.draining or self.process.requests_open
        return not busy


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the node did by itself, for a person."""

    unix_seconds: float
    text: str


class ModelManager:
    """Loads models, and knows what is in memory.

    Args:
        settings: The worker's settings.
        logs: Folder for the engines' logs.
        engines: What is installed here.
        pool: The memory.
        measurements: What models took before.
        size: Returns how a model would be loaded when it is asked for in some way.
        changed: Called when anything that a scheduler sees changed.

    Attributes:
        draining: Whether the node takes no new work.
        notices: What the node did by itself, the newest last.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        logs: Path,
        engines: Engines,
        pool: MemoryPool,
        measurements: Measurements,
        size: Callable[[StoredModel, Options], Awaitable[Estimate]],
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._engines = engines
        self._pool = pool
        self._measurements = measurements
        self._size = size
        self._changed = changed
        self._residents: dict[Key, Resident] = {}
        self._crashes = Crashes()
        self.draining = False
        self.notices: deque[Notice] = deque(maxlen=NOTICES_KEPT)

    @property
    def residents(self) -> list[Resident]:
        """Models in memory or on their way there."""
        return list(self._residents.values())

    def resident(self, model: StoredModel) -> Resident | None:
        """Return a model that is in memory or on its way there."""
        return self._residents.get(model.key)

    async def ensure_loaded(self, model: StoredModel, asked: Options = AS_PLANNED) -> EngineProcess:
        """Return the engine that holds a model, loading it first where needed.

        Callers that come while it loads share the load. A caller that is cancelled leaves it to the
        others: a load that was begun is finished.

        Args:
            model: Which.
            asked: How it must be held; any way will do where it says nothing.

        Raises:
            Draining: The node takes no new work.
            ModelBusy: It is held in another way, and in use.
            NotEnoughMemory: It does not fit; the message has the numbers.
            PotluckError: The engine refused the file, or died.
        """
        self._check_draining(model)
        resident = self.resident(model)
        if resident is not None and not resident.is_what(asked):
            await self._make_way(resident, asked)
        if self.resident(model) is None:
            estimate = await self._size(model, asked)
            self._check_draining(model)
            # Whoever asked for the same meanwhile may have begun.
            if self.resident(model) is None:
                self._begin_load(model, estimate, asked)
        resident = self._residents[model.key]
        if not resident.is_what(asked):
            raise _busy(resident, asked)
        if resident.loading is None:
            return resident.process
        return await asyncio.shield(resident.loading)

    def _check_draining(self, model: StoredModel) -> None:
        """Raise `Draining` where the node, or the model, takes no new work."""
        if self.draining:
            raise Draining("This node is being drained and takes no new work.")
        resident = self.resident(model)
        if resident is not None and resident.draining is not None:
            raise Draining(f"{model.name} is being unloaded here and takes no new work.")

    async def unload(self, model: StoredModel, *, only_idle: bool = False) -> int:
        """Free a model; return its bytes, 0 where it was not loaded.

        It takes no new answers from now on; those under way have `drain_seconds` to end, and are
        `Displaced` then.

        Args:
            model: Which one.
            only_idle: Leave one that somebody uses, and raise `ModelBusy`.
        """
        resident = self.resident(model)
        if resident is None:
            return 0
        if only_idle and (resident.loading is not None or resident.process.requests_open):
            raise ModelBusy(f"{model.name} is in use here, so it stays in memory.")
        await asyncio.shield(self._drain(resident, f"{model.name} was unloaded"))
        return resident.estimate.total_bytes

    def pin(self, model: StoredModel, pinned: bool) -> None:
        """Keep a model when others need room, or no longer.

        Raises:
            BadRequest: It is not in memory.
        """
        resident = self.resident(model)
        if resident is None:
            raise BadRequest(f"{model.name} is not in memory here. Load it first.")
        resident.pinned = pinned
        self._changed()

    def drain(self, draining: bool) -> None:
        """Take no new work and free all models, or take work again.

        What drains goes on draining, also where work is taken again meanwhile.
        """
        self.draining = draining
        if draining:
            for resident in self.residents:
                self._drain(resident, "This node was drained")
        self._changed()

    async def close(self, drain_seconds: float) -> None:
        """Free everything; returns when the last child is gone.

        Args:
            drain_seconds: What answers under way get to end by themselves.
        """
        self.draining = True
        why = "This node's worker was stopped"
        reason = _displaced(why)
        await asyncio.gather(*(r.process.drain(drain_seconds, reason) for r in self.residents))
        await asyncio.gather(*(self._drain(r, why) for r in self.residents))

    def _drain(self, resident: Resident, why: str) -> asyncio.Task[None]:
        """Begin to see a model off, if that was not begun; return the task that does."""
        if resident.draining is None:
            resident.draining = asyncio.create_task(self._see_off(resident, _displaced(why)))
            self._changed()
        return resident.draining

    async def _see_off(self, resident: Resident, reason: Displaced) -> None:
        """Let answers end, then free the model; it is on the list until its memory is free."""
        await resident.process.drain(self._settings.drain_seconds, reason)
        await resident.process.close(reason)
        self._forget(resident)

    async def yield_memory(self) -> None:
        """Unload models that nobody uses while other programs leave too little memory.

        The one that was not used for longest goes first; pinned ones stay.
        """
        short = self._pool.short_devices(YIELD_SHARE)
        while short and (resident := self._least_recently_used(short)):
            free_bytes = self._pool.free_bytes()
            free = ", ".join(
                f"{free_bytes[device_id] / 2**20:,.0f} MiB of {self._pool.name(device_id)}"
                for device_id in short
            )
            text = f"{resident.model.name} was unloaded, since other programs left {free} free."
            log.warning("%s", text)
            self.notices.append(Notice(time.time(), text))
            await asyncio.shield(self._drain(resident, f"{resident.model.name} made way"))
            short = self._pool.short_devices(1.0)

    def _least_recently_used(self, devices: Sequence[str]) -> Resident | None:
        """Return the model to unload first so that some devices have more free."""
        candidates = [
            resident
            for resident in self.residents
            if resident.idle
            and not resident.pinned
            and any(self._pool.holds_some(resident.model.key, device_id) for device_id in devices)
        ]
        return min(candidates, key=lambda resident: resident.process.idle_since, default=None)

    async def _make_way(self, resident: Resident, asked: Options) -> None:
        """Unload a model that is held in another way. Raises `ModelBusy` where it is in use."""
        if not resident.idle:
            raise _busy(resident, asked)
        log.info("%s is loaded anew, in another way", resident.model.name)
        await asyncio.shield(self._drain(resident, f"{resident.model.name} was loaded anew"))

    def _begin_load(self, model: StoredModel, estimate: Estimate, asked: Options) -> None:
        key = model.key
        self._crashes.check(key)
        idle = [resident.model.name for resident in self.residents if resident.idle]
        self._pool.check(model.name, estimate, idle)
        log_path = engine_log_path(self._logs, *key)
        interpreter = self._engines.interpreter(model.engine)
        process = EngineProcess(
            model.engine, log_path, lambda: self._on_change(key), interpreter=interpreter
        )
        pinned = self._settings.wanted(*key).pinned
        resident = Resident(model, process, estimate, asked, pinned)
        self._residents[key] = resident
        self._pool.book(key, estimate, process)
        resident.loading = asyncio.create_task(self._load(resident), name=f"load {model.name}")
        # A failure reaches those who wait; when all of them left, nobody needs it.
        resident.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._changed()

    async def _load(self, resident: Resident) -> EngineProcess:
        model = resident.model
        try:
            frame = self._load_frame(resident)
            await resident.process.load(frame, model.file_bytes)
        except BaseException as error:
            self._forget(resident)
            if isinstance(error, EngineDied | Stalled):
                self._crashes.note(model.key)
            raise
        resident.loading = None
        self._measure(resident)
        return resident.process

    def _load_frame(self, resident: Resident) -> Load:
        """Return how the engine is told to hold a model."""
        options = resident.estimate.options
        assert options.context_length and options.slots
        return Load(
            path=str(resident.model.path),
            context_length=options.context_length,
            slots=options.slots,
            kv_type=options.kv_type or "f16",
            gpu_layers=options.gpu_layers if resident.estimate.layers else None,
            host_experts=options.host_experts or 0,
            cards=self._pool.places(resident.estimate),
            flash_attention=options.flash_attention,
            threads=self._settings.threads,
            lora_adapters=options.lora_adapters,
            prompt_format=resident.model.prompt_format,
        )

    def _on_change(self, key: Key) -> None:
        """Forget a model whose engine died, so that the next request loads it again."""
        resident = self._residents.get(key)
        if resident and resident.process.death is not None and resident.process.loaded:
            self._forget(resident)
            if resident.draining is None:
                self._crashes.note(key)
        elif resident and resident.process.loaded:
            self._measure(resident)
        self._changed()

    def _measure(self, resident: Resident) -> None:
        """Keep what a model has taken by now, for the next estimate."""
        if self._residents.get(resident.model.key) is not resident:
            return  # its engine died as soon as it was there
        peak_bytes = self._pool.look(resident.model.key)
        measurement = Measurement(peak_bytes, resident.process.stats.fullness)
        self._measurements.note(resident.model.file_id, resident.estimate, measurement)

    def _forget(self, resident: Resident) -> None:
        """Take a model off the list, now that nothing of its child is left."""
        key = resident.model.key
        if self._residents.get(key) is resident:
            del self._residents[key]
            self._pool.release(key)
            self._changed()


def _busy(resident: Resident, asked: Options) -> ModelBusy:
    """Return the refusal to hold a model in another way while it is in use."""
    differing = ", ".join(
        f"{name.replace('_', ' ')} {getattr(resident.estimate.options, name)} and not {value}"
        for name in Options.__slots__
        if (value := getattr(asked, name)) not in (None, ())
        and value != getattr(resident.estimate.options, name)
    )
    how = "is being loaded" if resident.loading else "is loaded and in use"
    return ModelBusy(
        f"{resident.model.name} {how} here with {differing or 'other options'}. Wait until nobody "
        "uses it, or unload it."
    )


def _displaced(why: str) -> Displaced:
    return Displaced(f"{why} before the answer ended; what it had said is kept. Ask again.")
