"""The models in memory: loaded once, accounted for, and gone when their engine is.

The worker owns its memory. A load is allowed when what the engine says it takes, and a margin, is
free now beyond what loads under way have reserved; otherwise it is refused with all the numbers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import (
    Displaced,
    Draining,
    EngineDied,
    NotEnoughMemory,
    Stalled,
)
from potluck_worker.engine_log import engine_log_path
from potluck_worker.engines.base import Load
from potluck_worker.hardware import Memory, measure_memory
from potluck_worker.models import StoredModel
from potluck_worker.settings import WorkerSettings
from potluck_worker.supervisor import EngineProcess

LONGEST_BACKOFF_SECONDS = 30.0
CRASH_MEMORY_SECONDS = 60.0
"""Crashes further apart than this are not in a row."""

GIB = 2**30

Key = tuple[str, str]
"""Name and quantization."""


@dataclass(slots=True)
class Resident:
    """A model that is in memory, or on its way there."""

    model: StoredModel
    process: EngineProcess
    loading: asyncio.Task[EngineProcess] | None = None
    draining: asyncio.Task[None] | None = None
    """Set once it takes no new answers; done when its memory is free."""


@dataclass(slots=True)
class Crashes:
    """How often a model's engine died in a row, and when it may be tried again."""

    count: int = 0
    last: float = 0.0
    not_before: float = 0.0


class ModelManager:
    """Loads models, and knows what is in memory.

    Args:
        settings: The worker's settings.
        logs: Folder for the engines' logs.
        changed: Called when anything that a scheduler sees changed.
        measure: Returns the machine's memory; replaced in tests.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        logs: Path,
        changed: Callable[[], None],
        measure: Callable[[], Memory] = measure_memory,
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._changed = changed
        self._measure = measure
        self._residents: dict[Key, Resident] = {}
        self._crashes: dict[Key, Crashes] = {}
        self.draining = False

    @property
    def residents(self) -> list[Resident]:
        """Models in memory or on their way there."""
        return list(self._residents.values())

    def memory(self) -> Memory:
        """Return the machine's memory; what loads under way will take counts as taken."""
        memory = self._measure()
        reserved = sum(
            r.model.memory_needed_bytes for r in self.residents if r.process.loaded is None
        )
        return Memory(memory.total_bytes, max(0, memory.free_bytes - reserved))

    def free_for_models(self) -> int:
        """Return the bytes that another model may take."""
        return max(0, self.memory().free_bytes - self._settings.memory_margin_bytes)

    def resident(self, model: StoredModel) -> Resident | None:
        """Return a model that is in memory or on its way there."""
        return self._residents.get((model.name, model.quantization))

    async def ensure_loaded(self, model: StoredModel) -> EngineProcess:
        """Return the engine that holds a model, loading it first where needed.

        Callers that come while it loads share the load. A caller that is cancelled leaves it to the
        others: a load that was begun is finished.

        Raises:
            Draining: The node takes no new work.
            NotEnoughMemory: It does not fit; the message has the numbers.
            PotluckError: The engine refused the file, or died.
        """
        if self.draining:
            raise Draining("This node is being drained and takes no new work.")
        resident = self.resident(model)
        if resident is None:
            resident = self._begin_load(model)
        if resident.draining is not None:
            raise Draining(f"{model.name} is being unloaded here and takes no new work.")
        if resident.loading is None:
            return resident.process
        return await asyncio.shield(resident.loading)

    async def unload(self, model: StoredModel) -> int:
        """Free a model; return its bytes, 0 where it was not loaded.

        It takes no new answers from now on; those under way have `drain_seconds` to end, and are
        `Displaced` then.
        """
        resident = self.resident(model)
        if resident is None:
            return 0
        await asyncio.shield(self._drain(resident, f"{model.name} was unloaded"))
        return resident.model.memory_needed_bytes

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

    def _begin_load(self, model: StoredModel) -> Resident:
        key = (model.name, model.quantization)
        self._check_backoff(key)
        self._check_memory(model)
        log_path = engine_log_path(self._logs, *key)
        process = EngineProcess(model.engine, log_path, lambda: self._on_change(key))
        resident = Resident(model, process)
        self._residents[key] = resident
        resident.loading = asyncio.create_task(self._load(resident), name=f"load {model.name}")
        # A failure reaches those who wait; when all of them left, nobody needs it.
        resident.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._changed()
        return resident

    async def _load(self, resident: Resident) -> EngineProcess:
        model, inspection = resident.model, resident.model.inspection
        assert inspection is not None
        try:
            await resident.process.load(
                Load(
                    path=str(model.path),
                    context_length=inspection.context_length,
                    slots=inspection.slots,
                    threads=self._settings.threads,
                ),
                model.file_bytes,
            )
        except BaseException as error:
            self._forget(resident)
            if isinstance(error, EngineDied | Stalled):
                self._count_crash((model.name, model.quantization))
            raise
        resident.loading = None
        return resident.process

    def _on_change(self, key: Key) -> None:
        """Forget a model whose engine died, so that the next request loads it again."""
        resident = self._residents.get(key)
        if resident and resident.process.death is not None and resident.process.loaded:
            self._forget(resident)
            if resident.draining is None:
                self._count_crash(key)
        self._changed()

    def _forget(self, resident: Resident) -> None:
        """Take a model off the list, now that nothing of its child is left."""
        key = (resident.model.name, resident.model.quantization)
        if self._residents.get(key) is resident:
            del self._residents[key]
            self._changed()

    def _count_crash(self, key: Key) -> None:
        """Let the second and further crashes in a row cost a growing pause."""
        crashes, now = self._crashes.setdefault(key, Crashes()), time.monotonic()
        crashes.count = crashes.count + 1 if now - crashes.last < CRASH_MEMORY_SECONDS else 1
        crashes.last = now
        pause = 2.0 ** (crashes.count - 2) if crashes.count > 1 else 0.0
        crashes.not_before = now + min(LONGEST_BACKOFF_SECONDS, pause)

    def _check_backoff(self, key: Key) -> None:
        crashes = self._crashes.get(key)
        if crashes and (rest := crashes.not_before - time.monotonic()) > 0:
            raise EngineDied(
                f"The engine of {key[0]} died {crashes.count} times in a row; it is tried again in "
                f"{rest:.0f} seconds. `potluck logs {key[0]}` may say why."
            )

    def _check_memory(self, model: StoredModel) -> None:
        needed, margin = model.memory_needed_bytes, self._settings.memory_margin_bytes
        memory = self.memory()
        if needed + margin <= memory.free_bytes:
            return
        found = model.inspection
        assert found is not None
        parts = (
            f"{gib(found.weights_bytes)} weights, {gib(found.kv_cache_bytes)} KV cache, "
            f"{gib(found.compute_bytes + found.process_bytes)} working memory"
        )
        idle = [r.model.name for r in self.residents if r.process.requests_open == 0]
        advice = "Take a smaller quantization or model, or a smaller context_length or slots"
        if idle:
            advice += f", or unload {', '.join(idle)}"
        raise NotEnoughMemory(
            f"{model.name} needs {gib(needed)} GiB ({parts}) and {gib(margin)} GiB kept free; "
            f"{gib(memory.free_bytes)} of {gib(memory.total_bytes)} GiB are free. {advice}.",
            needed_bytes=needed,
            free_bytes=memory.free_bytes,
        )


def _displaced(why: str) -> Displaced:
    return Displaced(f"{why} before the answer ended; what it had said is kept. Ask again.")


def gib(size_bytes: int) -> str:
    """Return a size in GiB for a person."""
    return f"{size_bytes / GIB:.1f}"
