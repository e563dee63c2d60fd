"""What the screen shows of the pool: nodes and models as plain values (see `views`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from potluck_proto.ids import ChatId, GenerationId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2
from potluck_tui.benchmarks import BenchmarkView
from potluck_tui.clean import clean
from potluck_tui.downloads import DownloadView
from potluck_tui.model_facts import COMMERCIAL_USE
from potluck_tui.words import label


class Health(StrEnum):
    """How a node is, in the word that the table shows."""

    CONNECTING = "joining"
    READY = "ready"
    SUSPECT = "suspect"
    LOST = "lost"
    REFUSED = "refused"
    DRAINING = "draining"


_HEALTH = {
    pb.NODE_HEALTH_READY: Health.READY,
    pb.NODE_HEALTH_SUSPECT: Health.SUSPECT,
    pb.NODE_HEALTH_LOST: Health.LOST,
    pb.NODE_HEALTH_REFUSED: Health.REFUSED,
}

_ACCELERATORS = {
    types_pb2.ACCELERATOR_CPU: "CPU",
    types_pb2.ACCELERATOR_CUDA: "CUDA",
    types_pb2.ACCELERATOR_ROCM: "ROCm",
    types_pb2.ACCELERATOR_METAL: "Metal",
    types_pb2.ACCELERATOR_VULKAN: "Vulkan",
}

_MODEL_STATES = {
    types_pb2.MODEL_STATE_LOADING: "loading",
    types_pb2.MODEL_STATE_READY: "ready",
    types_pb2.MODEL_STATE_DRAINING: "draining",
    types_pb2.MODEL_STATE_FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class DeviceView:
    """Something with memory of its own that can compute."""

    name: str
    accelerator: str
    total_bytes: int
    free_bytes: int
    others_bytes: int = 0
    utilisation: float | None = None
    temperature_celsius: float | None = None
    watts: float | None = None
    weights_bytes: int = 0
    cache_bytes: int = 0
    """KV caches of the loaded models."""

    @property
    def used_share(self) -> float:
        """How much of it somebody uses: 0 to 1."""
        if not self.total_bytes:
            return 0.0
        return min(1.0, max(0.0, 1 - self.free_bytes / self.total_bytes))

    @property
    def rest_bytes(self) -> int:
        """What is neither free nor of a model: other programs, and what is kept free on purpose."""
        ours_bytes = self.weights_bytes + self.cache_bytes
        return max(0, self.total_bytes - self.free_bytes - ours_bytes)


@dataclass(frozen=True, slots=True)
class EngineView:
    """An engine of a node, or one that it could have."""

    name: str
    version: str
    available: bool
    advice: str = ""


@dataclass(frozen=True, slots=True)
class LoadedView:
    """A model in a node's memory."""

    label: str
    state: str
    engine: str
    memory_bytes: int
    context_length: int
    slots: int
    slots_busy: int
    queue_length: int
    pinned: bool = False
    load_fraction: float | None = None
    """How far it is, while it loads."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One machine of the pool."""

    name: str
    health: Health
    address: str
    found_by: str
    age_seconds: float
    round_trip_seconds: float
    version: str
    problem: str
    queue_length: int
    tokens_per_second: float
    tags: tuple[str, ...] = ()
    devices: tuple[DeviceView, ...] = ()
    engines: tuple[EngineView, ...] = ()
    loaded: tuple[LoadedView, ...] = ()
    model_problems: tuple[tuple[str, str], ...] = ()
    """Label and problem of each model file that this node cannot use."""
    refusals: tuple[str, ...] = ()
    """Whom it turned away lately, and why."""
    notices: tuple[str, ...] = ()
    """What it did by itself."""
    node_id: str = ""
    downloads: tuple[DownloadView, ...] = ()
    """Models on their way there."""

    @property
    def main_device(self) -> DeviceView | None:
        """The device that models go to first: an accelerator before the CPU, then the largest."""
        return max(
            self.devices,
            key=lambda device: (device.accelerator != "CPU", device.total_bytes),
            default=None,
        )

    @property
    def temperature_celsius(self) -> float | None:
        """Of its hottest device, where one says it."""
        known = [d.temperature_celsius for d in self.devices if d.temperature_celsius is not None]
        return max(known, default=None)

    @property
    def watts(self) -> float | None:
        """What its devices draw together, of those that say it."""
        known = [device.watts for device in self.devices if device.watts is not None]
        return sum(known) if known else None

    @property
    def slots(self) -> int:
        """Answers that the loaded models can write at once."""
        return sum(model.slots for model in self.loaded)

    @property
    def slots_busy(self) -> int:
        """Answers that the loaded models write now."""
        return sum(model.slots_busy for model in self.loaded)

    @classmethod
    def from_proto(cls, node: pb.Node) -> NodeView:
        """Take a node apart."""
        state = node.state
        health = _HEALTH.get(node.health, Health.CONNECTING)
        if health is Health.READY and state.draining:
            health = Health.DRAINING
        return cls(
            name=clean(state.name or node.address),
            health=health,
            address=clean(node.address),
            found_by=clean(", ".join(node.found_by)),
            age_seconds=node.age_seconds,
            round_trip_seconds=node.round_trip_seconds,
            version=clean(state.version),
            problem=clean(node.problem.message),
            queue_length=state.queue_length,
            tokens_per_second=state.tokens_per_second,
            tags=tuple(clean(tag) for tag in state.tags),
            devices=tuple(_device(device) for device in state.devices),
            engines=tuple(
                EngineView(
                    clean(engine.name),
                    clean(engine.version),
                    engine.available,
                    clean(engine.advice),
                )
                for engine in state.engines
            ),
            loaded=tuple(_loaded(model) for model in state.loaded),
            model_problems=tuple(
                (label(model.name, model.quantization), clean(model.problem.message))
                for model in state.models
                if model.HasField("problem")
            ),
            refusals=tuple(map(refusal_words, state.refusals)),
            notices=tuple(clean(notice.text) for notice in state.notices),
            node_id=state.node_id,
            downloads=tuple(map(DownloadView.from_proto, state.downloads)),
        )


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model of the pool: one name and quantization, on one node or several."""

    label: str
    """What a person types: `name:quantization`."""
    file_bytes: int
    parameter_count: int
    training_context_length: int
    context_length: int
    licence: str
    node_names: tuple[str, ...]
    loaded_on: tuple[str, ...]
    memory_needed_bytes: int
    usable: bool
    problem: str = ""
    note: str = ""
    """What is less than its node's settings say, so that it fits."""
    title: str = ""
    architecture: str = ""
    is_default: bool = False
    starter: bool = False
    quantization: str = ""
    bits_per_weight: float = 0.0
    commercial_use: str = ""
    """Whether its licence permits that, in words."""
    is_base: bool = False
    """It was not tuned to answer."""
    has_chat_template: bool = False
    benchmarks: tuple[BenchmarkView, ...] = ()

    @classmethod
    def from_proto(cls, model: pb.ModelSummary) -> ModelView:
        """Take a model apart."""
        description = model.description
        return cls(
            label=label(description.name, description.quantization),
            file_bytes=description.file_bytes,
            parameter_count=description.parameter_count,
            training_context_length=description.training_context_length,
            context_length=description.context_length,
            licence=clean(description.license),
            node_names=tuple(clean(name) for name in model.node_names),
            loaded_on=tuple(clean(name) for name in model.loaded_on),
            memory_needed_bytes=description.memory_needed_bytes,
            usable=model.usable,
            problem=clean(description.problem.message),
            note=clean(description.note),
            title=clean(description.title),
            architecture=clean(description.architecture),
            is_default=model.is_default,
            starter=description.starter,
            quantization=clean(description.quantization),
            bits_per_weight=description.bits_per_weight,
            commercial_use=COMMERCIAL_USE[description.commercial_use],
            is_base=description.tuning == types_pb2.TUNING_BASE,
            has_chat_template=description.has_chat_template,
            benchmarks=tuple(map(BenchmarkView.from_proto, model.benchmarks)),
        )

    @property
    def goes_on(self) -> bool:
        """Whether it only goes on with a text: nothing gives it a format to answer in."""
        return self.is_base and not self.has_chat_template


@dataclass(frozen=True, slots=True)
class PoolView:
    """The pool at one moment."""

    nodes: tuple[NodeView, ...] = ()
    models: tuple[ModelView, ...] = ()
    chats_revision: int = 0
    problem: str = ""
    """What is wrong with the scheduler itself, such as a full disk."""
    active: Mapping[ChatId, GenerationId] = field(default_factory=dict)
    """The answer under way in each chat that has one."""
    strangers: tuple[str, ...] = ()
    """Machines of the network that are not of this pool."""

    @property
    def nodes_ready(self) -> int:
        """How many nodes take work."""
        return sum(node.health is Health.READY for node in self.nodes)

    @property
    def default_model(self) -> ModelView | None:
        """The model that answers where none was chosen."""
        return next((model for model in self.models if model.is_default), None)

    @property
    def answerers(self) -> list[tuple[str, str]]:
        """Who can answer: each usable model anywhere, then on each node that has it, if several."""
        return [
            (model.label, node)
            for model in self.models
            if model.usable
            for node in ("", *(model.node_names if len(model.node_names) > 1 else ()))
        ]

    def node(self, address: str) -> NodeView | None:
        """Return the node at an address."""
        return next((node for node in self.nodes if node.address == address), None)

    def measured_on(self, node_name: str) -> tuple[tuple[str, str], ...]:
        """Return the label and the figures of each model that was measured on a node."""
        return tuple(
            (model.label, benchmark.words)
            for model in self.models
            for benchmark in model.benchmarks
            if benchmark.node_name == node_name
        )

    def model(self, name: str) -> ModelView | None:
        """Return the model that a person means by a name, the default for an empty one."""
        if not name:
            return self.default_model
        return next(
            (model for model in self.models if name in (model.label, model.label.split(":")[0])),
            None,
        )

    def fit(self, model: ModelView) -> str:
        """Say in a few words whether a model can run now."""
        if not model.usable:
            return "unusable"
        if model.loaded_on:
            return "loaded"
        free = [
            device.free_bytes
            for node in self.nodes
            if node.name in model.node_names and (device := node.main_device) is not None
        ]
        if free and model.memory_needed_bytes > max(free):
            return "no room"
        return "fits"

    @classmethod
    def from_proto(cls, pool: pb.WatchPoolResponse) -> PoolView:
        """Take a pool apart; nodes and models come sorted by name."""
        return cls(
            nodes=tuple(sorted((NodeView.from_proto(n) for n in pool.nodes), key=lambda n: n.name)),
            models=tuple(
                sorted((ModelView.from_proto(m) for m in pool.models), key=lambda m: m.label)
            ),
            chats_revision=pool.chats_revision,
            problem=clean(pool.problem),
            active={
                ChatId(answer.chat_id): GenerationId(answer.generation_id) for answer in pool.active
            },
            strangers=tuple(map(stranger_words, pool.strangers)),
        )


def stranger_words(stranger: pb.Stranger) -> str:
    """Say which machine it is that is not of the pool, as far as it says so itself."""
    belongs = "of another pool" if stranger.paired else "on its own"
    return clean(f"{stranger.name or '?'} at {stranger.address}, {belongs}")


def refusal_words(refusal: types_pb2.Refusal) -> str:
    """Say who was turned away, and why."""
    times = "" if refusal.count == 1 else f", {refusal.count} times"
    return clean(f"{refusal.address}: {refusal.reason}{times}")


def _device(device: types_pb2.Device) -> DeviceView:
    return DeviceView(
        name=clean(device.name),
        accelerator=_ACCELERATORS.get(device.accelerator, "?"),
        total_bytes=device.memory_total_bytes,
        free_bytes=device.memory_free_bytes,
        others_bytes=device.memory_others_bytes,
        utilisation=device.utilisation if device.HasField("utilisation") else None,
        temperature_celsius=(
            device.temperature_celsius if device.HasField("temperature_celsius") else None
        ),
        watts=device.watts if device.HasField("watts") else None,
        weights_bytes=device.weights_bytes,
        cache_bytes=device.kv_cache_bytes,
    )


def _loaded(model: types_pb2.LoadedModel) -> LoadedView:
    state = _MODEL_STATES.get(model.state, "?")
    if state == "loading" and model.load_fraction:
        state = f"loading {model.load_fraction:.0%}"
    return LoadedView(
        label=label(model.name, model.quantization),
        state=state,
        engine=clean(model.engine),
        memory_bytes=model.memory_bytes,
        context_length=model.context_length,
        slots=model.slots,
        slots_busy=model.slots_busy,
        queue_length=model.queue_length,
        pinned=model.pinned,
        load_fraction=(
            model.load_fraction if model.state == types_pb2.MODEL_STATE_LOADING else None
        ),
    )
