"""Which cards of this machine a model is split over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def card_numbers(bus_ids: Sequence[str]) -> list[str]:
    """Return the numbers that NVIDIA's driver has for cards, none where there is no driver.

    Asked of the driver: to ask PyTorch would take some hundred megabytes on every card.

    Args:
        bus_ids: Where the cards are on the PCI bus.
    """
    if not bus_ids:
        return []
    try:
        nvml: Any = import_module("vllm.third_party.pynvml")
        nvml.nvmlInit()
    except Exception:
        # Without a driver the library raises an error of its own.
        return []
    try:
        handles = [nvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode()) for bus_id in bus_ids]
        return [str(nvml.nvmlDeviceGetIndex(handle)) for handle in handles]
    finally:
        nvml.nvmlShutdown()


def choose_cards(
    free: Mapping[str, int], card_bytes: Callable[[int], int], heads: int
) -> Sequence[str]:
    """Return the fewest cards that hold a model together, those with the most room first.

    Each gets the same share, so the fullest of them decides; attention heads are dealt out whole.
    Where nothing suffices, as many as can share.

    Args:
        free: Free bytes of each card.
        card_bytes: Returns what the model takes of each of so many cards.
        heads: Its attention heads.
    """
    roomy = sorted(free, key=lambda card: -free[card])
    counts = [count for count in range(1, len(roomy) + 1) if heads % count == 0]
    for count in counts:
        if card_bytes(count) <= free[roomy[count - 1]]:
            return roomy[:count]
    return roomy[: counts[-1]] if counts else []
