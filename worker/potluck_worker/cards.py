"""The cards of this machine: which the engine sees, and how they are now.

Which there are is asked once, from the engine in a child. How they are now comes from where asking
costs nothing: NVIDIA's management library where it is installed, the kernel's files for AMD's. For
other cards the engine is asked again now and then.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from potluck_proto.errors import PotluckError
from potluck_worker import questions
from potluck_worker.engines.sizing import Card

log = logging.getLogger(__name__)

PCI = Path("/sys/bus/pci/devices")

PLAIN_LIBRARIES = ("libggml-base", "libggml-cpu", "libggml-blas", "libggml.")
"""What every build of the engine has; another of ggml's libraries computes on some card."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a card is now."""

    memory_free_bytes: int
    utilisation: float | None = None
    """0 to 1."""
    temperature_celsius: float | None = None
    watts: float | None = None
    used_by: Mapping[int, int] = field(default_factory=dict)
    """Bytes by process id, where the driver says it."""


class Cards:
    """Knows the cards.

    Args:
        ask: Asks the engine, in a child; replaced in tests.

    Attributes:
        known: As the engine described them last.
        llama_has_them: Whether llama.cpp computes on them.
    """

    def __init__(self, ask: Callable[..., Any] = questions.ask) -> None:
        self._ask = ask
        self._nvml = _start_nvml()
        self.known: Sequence[Card] = ()
        self.llama_has_them = engine_has_cards()

    async def look(self, *, vllm_has_cards: bool = False) -> None:
        """Ask the engine which cards there are, and what is free on them.

        Args:
            vllm_has_cards: Where llama.cpp was built without them, those count that NVIDIA's
                library lists.
        """
        if not self.llama_has_them:
            if vllm_has_cards and self._nvml is not None:
                self.known = _list_nvml(self._nvml)
            return
        try:
            self.known = await self._ask("cards", tuple[Card, ...])
        except PotluckError as error:
            log.warning("cannot look for cards: %s", error.message)

    @property
    def need_looks(self) -> bool:
        """Whether some card can only be read by asking the engine again."""
        return any(self._read(card) is None and not card.unified for card in self.known)

    def read(self, card: Card) -> Reading:
        """Return how a card is now, or was at the last look."""
        return self._read(card) or Reading(card.memory_free_bytes)

    def _read(self, card: Card) -> Reading | None:
        if not card.bus_id:
            return None
        if self._nvml is not None and card.accelerator in ("cuda", "vulkan"):
            return _read_nvml(self._nvml, card.bus_id)
        return read_kernel_files(PCI / card.bus_id)


def engine_has_cards() -> bool:
    """Say whether the installed engine was built for some card, without loading it."""
    found = find_spec("llama_cpp")
    if found is None or not found.submodule_search_locations:
        return False
    libraries = Path(found.submodule_search_locations[0], "lib").glob("libggml*")
    return any(not library.name.startswith(PLAIN_LIBRARIES) for library in libraries)


def read_kernel_files(folder: Path) -> Reading | None:
    """Return what the kernel says of an AMD card, `None` where it says nothing.

    Args:
        folder: The card's, below `/sys/bus/pci/devices`.
    """
    try:
        total_bytes, used_bytes, busy_percent = (
            int((folder / name).read_text())
            for name in ("mem_info_vram_total", "mem_info_vram_used", "gpu_busy_percent")
        )
    except (OSError, ValueError):
        return None
    return Reading(
        memory_free_bytes=total_bytes - used_bytes,
        utilisation=busy_percent / 100,
        temperature_celsius=_sensor(folder, "temp1_input", 1e3),
        watts=_sensor(folder, "power1_average", 1e6),
    )


def _sensor(folder: Path, name: str, units: float) -> float | None:
    """Return what a sensor of a card says, `None` where it has no such one or says nothing."""
    for path in sorted(folder.glob(f"hwmon/hwmon*/{name}")):
        with suppress(OSError, ValueError):
            return int(path.read_text()) / units
    return None


def _start_nvml() -> Any:
    """Return NVIDIA's management library, started, or `None` where there is none."""
    if find_spec("pynvml") is None:
        return None
    nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        log.info("NVIDIA's management library does not start: %s", error)
        return None
    return nvml


def _list_nvml(nvml: Any) -> Sequence[Card]:
    """Return NVIDIA's cards, but for those that are hidden from programs."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    everything = map(str, range(nvml.nvmlDeviceGetCount()))
    names = everything if allowed is None else filter(None, allowed.split(","))
    found = []
    for number, name in enumerate(names):
        handle = (
            nvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdecimal()
            else nvml.nvmlDeviceGetHandleByUUID(name.encode())
        )
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found.append(
            Card(
                id=f"CUDA{number}",
                name=nvml.nvmlDeviceGetName(handle),
                accelerator="cuda",
                memory_total_bytes=memory.total,
                memory_free_bytes=memory.free,
                bus_id=nvml.nvmlDeviceGetPciInfo(handle).busId,
            )
        )
    return found


def _read_nvml(nvml: Any, bus_id: str) -> Reading | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return Reading(
            memory_free_bytes=memory.free,
            utilisation=nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            temperature_celsius=nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            watts=_nvml_watts(nvml, handle),
            used_by={
                process.pid: process.usedGpuMemory
                for process in processes
                if process.usedGpuMemory is not None
            },
        )
    except nvml.NVMLError as error:
        log.debug("NVIDIA's management library does not know %s: %s", bus_id, error)
        return None


def _nvml_watts(nvml: Any, handle: Any) -> float | None:
    """Return what a card draws; small and virtual ones do not say it."""
    try:
        return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000
    except nvml.NVMLError:
        return None
