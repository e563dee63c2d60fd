"""What this machine is: its memory, its processor, the accelerators that it seems to have."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory, as far as this process may use it."""

    total_bytes: int
    free_bytes: int


def measure_memory(cgroup: Path = CGROUP) -> Memory:
    """Return the memory of the machine, or of the container where that is less."""
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text()) - _reclaimable_bytes(cgroup)
    except (OSError, ValueError):  # no container, or "max": no limit
        return Memory(total, free)
    return Memory(min(total, limit), max(0, min(free, limit - used)))


def _reclaimable_bytes(cgroup: Path) -> int:
    """Return what a container's files take of its memory, which they give up when it is needed.

    A model that was read from disk would count twice otherwise.
    """
    try:
        lines = (cgroup / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    sizes = dict(line.split() for line in lines)
    return int(sizes.get("inactive_file", 0)) + int(sizes.get("active_file", 0))


def processor_name() -> str:
    """Return what the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def processor_celsius() -> float | None:
    """Return the temperature of the hottest part of the processor, `None` where nobody says it."""
    read = getattr(psutil, "sensors_temperatures", None)  # Linux and FreeBSD have it
    sensors = read() if read is not None else {}
    names = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal")
    return max((s.current for name in names for s in sensors.get(name, ())), default=None)


def physical_cores() -> int:
    """Return the cores that this process may use: more threads than that only wait for each other.

    Threads of one core share its arithmetic, so only whole cores count.
    """
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed_cores()))


def allowed_cores() -> int:
    """Return the cores, hardware threads counted, that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def accelerator_kind() -> str:
    """Return which accelerator seems to be here: `cuda`, `rocm`, `metal` or `cpu`.

    This is for advice on what to install; what an engine can use, only the engine knows.
    """
    if Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        return "cuda"
    if Path("/sys/class/kfd/kfd/topology/nodes/1").exists():
        return "rocm"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "metal"
    return "cpu"
