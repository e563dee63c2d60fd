"""Which cards of this machine a model is split over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any


def free_cards() -> dict[str, int]:
    """Return the free bytes of each NVIDIA card that may be used, by its number or name.

    Asked of the driver: to ask PyTorch would take some hundred megabytes on every card.
    """
    try:
        nvml: Any = import_module("vllm.third_party.pynvml")
        nvml.nvmlInit()
    except Exception:
        # Without a driver the library raises an error of its own.
        return {}
    try:
        allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
        everything = map(str, range(nvml.nvmlDeviceGetCount()))
        names = list(everything) if allowed is None else list(filter(None, allowed.split(",")))
        return {name: _free_bytes(nvml, name) for name in names}
    finally:
        nvml.nvmlShutdown()


def _free_bytes(nvml: Any, name: str) -> int:
    handle = (
        nvml.nvmlDeviceGetHandleByIndex(int(name))
        if name.isdecimal()
        else nvml.nvmlDeviceGetHandleByUUID(name.encode())
    )
    return int(nvml.nvmlDeviceGetMemoryInfo(handle).free)


def choose_cards(free: Mapping[str, int], needed_bytes: int, heads: int) -> Sequence[str]:
    """Return the fewest cards that hold a model together, those with the most room first.

    Each gets the same share, so the fullest of them decides; attention heads are dealt out whole.
    Where nothing suffices, as many as can share: what is lacking, vLLM says with its numbers.

    Args:
        free: Free bytes of each card.
        needed_bytes: Of the whole model.
        heads: Its attention heads.
    """
    roomy = sorted(free, key=lambda card: -free[card])
    counts = [count for count in range(1, len(roomy) + 1) if heads % count == 0]
    for count in counts:
        if needed_bytes / count <= free[roomy[count - 1]]:
            return roomy[:count]
    return roomy[: counts[-1]] if counts else []
