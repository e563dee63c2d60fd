"""The core's view of the pool: frozen snapshots of nodes and requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from potluck_proto.errors import PotluckError
from potluck_proto.ids import GenerationId, NodeId


class ModelKey(NamedTuple):
    """One model file, wherever it lies: the same name and quantization mean the same model.

    A tuple, as it is looked up for every seat that a decision looks at.
    """

    name: str
    quantization: str

    def __str__(self) -> str:
        return f"{self.name}:{self.quantization}" if self.quantization else self.name


@dataclass(frozen=True, slots=True)
class Model:
    """A model file on a node."""

    key: ModelKey
    format: str = "gguf"
    architecture: str = ""
    file_bytes: int = 0
    bits_per_weight: float = 0.0
    parameter_count: int = 0
    memory_needed_bytes: int = 0
    context_length: int = 0
    """Tokens for each conversation, with the node's settings; 0 is unknown."""
    training_context_length: int = 0
    slots: int = 1
    engines: tuple[str, ...] = ()
    licence: str = ""
    commercial: bool = False
    """Its licence permits commercial use, perhaps with conditions."""
    tokenizer_sha256: str = ""
    template_sha256: str = ""
    weights_sha256: str = ""
    starter: bool = False
    embeds_only: bool = False
    """It embeds texts and cannot chat."""
    problem: PotluckError | None = None
    """Why the node cannot use it, where it cannot."""

    @property
    def usable(self) -> bool:
        """Whether an engine on the node runs it."""
        return self.problem is None and bool(self.engines)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in a node's memory, or on its way there."""

    key: ModelKey
    slots: int = 1
    slots_busy: int = 0
    queue_length: int = 0
    tokens_per_second: float = 0.0
    context_length: int = 0
    memory_bytes: int = 0
    ready: bool = True
    """Whether it takes requests; false while it is loaded or drained."""
    draining: bool = False
    """It is being unloaded; what sits there may end there, or go on elsewhere."""
    load_fraction: float = 1.0
    pinned: bool = False
    idle_seconds: float = 0.0

    @property
    def asked(self) -> int:
        """Answers that it writes or has in its own queue."""
        return self.slots_busy + self.queue_length


@dataclass(frozen=True)
class Node:
    """A worker that answers, as it last described itself.

    Memory is of the cards where there are any, and of the machine where there are none: that is
    where a model is fast. `spill_free_bytes` is what layers may take beside the cards.
    """

    node_id: NodeId
    name: str
    models: tuple[Model, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    memory_free_bytes: int = 0
    memory_total_bytes: int = 0
    spill_free_bytes: int = 0
    spill_total_bytes: int = 0
    accelerator: str = "cpu"
    engines: tuple[str, ...] = ()
    """Engines that are installed."""
    tags: tuple[str, ...] = ()
    draining: bool = False

    @cached_property
    def files(self) -> dict[ModelKey, Model]:
        """The node's models by key; of two files with one key, one that can be used."""
        ranked = sorted(self.models, key=lambda model: model.usable)
        return {model.key: model for model in ranked}

    @cached_property
    def memory(self) -> dict[ModelKey, Loaded]:
        """The models in its memory by key."""
        return {loaded.key: loaded for loaded in self.loaded}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an answer was when it was interrupted."""

    key: ModelKey
    """The model that it comes from."""
    tokens: int
    node_id: NodeId
    """The node that it was on: the last choice for going on."""


@dataclass(frozen=True, slots=True)
class Request:
    """An answer that wants a place."""

    generation_id: GenerationId
    model: str
    """As typed: `name` or `name:quantization`; empty takes the default."""
    nodes: tuple[str, ...] = ()
    """Only these nodes, by name or id; empty means any."""
    tags: tuple[str, ...] = ()
    """Facts that the node or the model must have; see `capability`."""
    client: str = ""
    """Who asks: clients are served in turn."""
    context_tokens: int = 0
    """The least context that it needs; 0 is any."""
    prompt_tokens: int = 0
    """About how long its prompt is."""
    answer_tokens: int = 0
    """The most that the answer may have; 0 is no limit."""
    prefix: tuple[int, ...] = ()
    """Hashes of the conversation's beginnings, a block longer each."""
    may_move: bool = True
    """Whether it may go on elsewhere when its place is lost."""
    progress: Progress | None = None
    """What it has, where it was interrupted."""
