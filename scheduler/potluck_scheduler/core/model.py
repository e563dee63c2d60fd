"""The core's view of the pool: frozen snapshots, and the decisions made on them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from potluck_proto.errors import PotluckError
from potluck_proto.ids import GenerationId, NodeId


@dataclass(frozen=True, slots=True)
class ModelKey:
    """One model file, wherever it lies: the same name and quantization mean the same model."""

    name: str
    quantization: str

    def __str__(self) -> str:
        return f"{self.name}:{self.quantization}" if self.quantization else self.name


@dataclass(frozen=True, slots=True)
class Model:
    """A model file on a node."""

    key: ModelKey
    bits_per_weight: float = 0.0
    parameter_count: int = 0
    memory_needed_bytes: int = 0
    context_length: int = 0
    slots: int = 1
    engines: tuple[str, ...] = ()
    starter: bool = False
    embeds_only: bool = False
    """It embeds texts and cannot chat."""
    problem: PotluckError | None = None
    """Why the node cannot use it, where it cannot."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in a node's memory, or on its way there."""

    key: ModelKey
    slots: int = 1
    slots_busy: int = 0
    queue_length: int = 0
    tokens_per_second: float = 0.0
    draining: bool = False
    """It is being unloaded and takes no new work."""


@dataclass(frozen=True, slots=True)
class Node:
    """A worker that answers, as it last described itself."""

    node_id: NodeId
    name: str
    models: tuple[Model, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    memory_free_bytes: int = 0
    memory_total_bytes: int = 0
    draining: bool = False

    def model(self, key: ModelKey) -> Model | None:
        """Return the node's file of a model."""
        return next((model for model in self.models if model.key == key), None)

    def loaded_model(self, key: ModelKey) -> Loaded | None:
        """Return the model in the node's memory."""
        return next((loaded for loaded in self.loaded if loaded.key == key), None)


@dataclass(frozen=True, slots=True)
class Request:
    """An answer that wants a place."""

    generation_id: GenerationId
    model: str
    """As typed: `name` or `name:quantization`; empty takes the default."""
    nodes: tuple[str, ...] = ()
    """Only these nodes, by name or id; empty means any."""


class Step(StrEnum):
    """The step of the policy that decided."""

    WARM = "warm"
    COLD_FITS = "cold_fits"
    REFUSED = "refused"


class Verdict(StrEnum):
    """What became of a node in a decision."""

    CHOSEN = "chosen"
    POSSIBLE = "possible"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was thought of one node."""

    node_id: NodeId
    node_name: str
    verdict: Verdict
    reason: str
    """One clause, with numbers."""
    needed_bytes: int = 0
    free_bytes: int = 0
    queue_length: int = 0
    tokens_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision, from which every text about it is made."""

    model: ModelKey
    step: Step
    summary: str
    """The line under the answer."""
    candidates: tuple[Candidate, ...] = ()
    node_id: NodeId | None = None
    """The chosen node; `None` for a refusal."""
    node_name: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A place, or the reason why there is none: `error` is set exactly for a refusal."""

    explanation: Explanation
    error: PotluckError | None = None
