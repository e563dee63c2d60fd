"""What a model takes of each device's memory, in the words that engines and the daemon share.

An engine answers one question, `Sizer.ask`: what does this file take, held like this?

"Takes" means at the peak of full use: every conversation as long as its context, a whole batch at
its end. Less is in use before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from potluck_worker.engines.base import KvType
from potluck_worker.engines.inspection import Inspection

HOST = "host"
"""The device id of main memory."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to hold a model in memory. `None` leaves a value to the node, and then to the engine."""

    context_length: int | None = None
    """Tokens for each conversation."""
    slots: int | None = None
    """Conversations at once."""
    kv_type: KvType | None = None
    gpu_layers: int | None = None
    """Layers on cards."""
    host_experts: int | None = None
    """Layers that are on a card but for their experts, which are in main memory: of a mixture of
    experts, they are the most and the least used."""
    flash_attention: bool | None = None
    lora_adapters: tuple[str, ...] = ()
    """Paths."""

    def over(self, defaults: Options) -> Options:
        """Return these options, with what they leave open taken from `defaults`."""
        mine = {name: getattr(self, name) for name in Options.__slots__}
        given = {name: value for name, value in mine.items() if value not in (None, ())}
        return replace(defaults, **given)


AS_PLANNED = Options()
"""Nothing is asked for: as the node holds the model already, or plans to."""


@dataclass(frozen=True, slots=True)
class Card:
    """A device with memory of its own, or with a share of main memory set apart for it."""

    id: str
    """As the engine calls it, such as `CUDA0`."""
    name: str
    accelerator: str
    """`cuda`, `rocm`, `metal`, `vulkan`, or what else the engine calls it."""
    memory_total_bytes: int
    memory_free_bytes: int
    unified: bool = False
    """Whether its memory is a part of main memory."""
    bus_id: str = ""
    """Where it is on the PCI bus, such as `0000:01:00.0`, where that is known."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a model takes of one device."""

    device_id: str
    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0
    process_bytes: int = 0
    """What the process takes beside its buffers: the interpreter, libraries, the vocabulary."""

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.process_bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model takes, held in one way."""

    options: Options
    """Each value decided, but for flash attention where the engine decides when it loads."""
    shares: tuple[Share, ...]
    """At most one for a device."""
    layers: int = 0
    """Layers that cards could hold; 0 where there is no card, or no choice."""
    expert_layers: int = 0
    """Of those, the ones with experts."""

    @property
    def total_bytes(self) -> int:
        """What it takes of all devices."""
        return sum(share.total_bytes for share in self.shares)

    def on(self, device_id: str) -> Share:
        """Return what it takes of one device."""
        found = (share for share in self.shares if share.device_id == device_id)
        return next(found, Share(device_id))

    def is_what(self, asked: Options) -> bool:
        """Say whether this is how a model is held that is loaded as `asked`."""
        if asked.gpu_layers is not None:
            asked = replace(asked, gpu_layers=min(asked.gpu_layers, self.layers))
        return asked.over(self.options) == self.options


@dataclass(frozen=True, slots=True)
class Room:
    """What a model may take of each device."""

    free_bytes: Mapping[str, int]
    unified: tuple[str, ...] = ()
    """Devices whose memory is a part of main memory: what is put there is missing in both."""

    def spare_bytes(self, estimate: Estimate) -> int:
        """Return what the tightest device has left; below 0, it does not fit by as much."""
        return min(
            self.free_bytes.get(device_id, 0) - taken_bytes
            for device_id, taken_bytes in self.taken(estimate).items()
        )

    def holds(self, estimate: Estimate) -> bool:
        """Say whether a model fits."""
        return self.spare_bytes(estimate) >= 0

    def taken(self, estimate: Estimate) -> dict[str, int]:
        """Return what a model takes of each device's memory, the host's always among them."""
        taken = {HOST: 0} | {share.device_id: share.total_bytes for share in estimate.shares}
        taken[HOST] += sum(taken.get(device_id, 0) for device_id in self.unified)
        return taken


class Sizer(Protocol):
    """A file, opened to be asked what it would take. It lives in a child process."""

    training_context_length: int
    """Tokens."""

    def ask(self, options: Options) -> Estimate:
        """Return what the file takes, held like this; what is open, the engine decides.

        `context_length`, `slots` and `kv_type` are given. A longer context never takes less. Raises
        `PotluckError` where the engine cannot hold it like this.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How a node holds a model unless it is told otherwise."""

    estimate: Estimate
    room: Room
    """What was free when it was decided."""
    note: str = ""
    """What is less than the settings say, so that it fits; for a person."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model takes in one way, and what would fit."""

    asked: Estimate
    largest: Estimate | None
    """With the longest context that fits, all else as asked."""
    instead: tuple[Estimate, ...] = ()
    """Where it does not fit: other ways that do, the better before the worse."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a child that reads files is asked: `plan` or `fit`, of one file."""

    path: str
    options: Options
    room: Room
    shorten: bool = True
    """Of a plan: whether the context may be shorter than the options say."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a file says of itself, and how a node holds it."""

    inspection: Inspection
    plan: Plan
