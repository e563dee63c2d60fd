"""What the core is told, and what it tells the outside to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from potluck_proto.errors import PotluckError
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.explanation import Decision
from potluck_scheduler.core.model import ModelKey, Node, Request

# --- nodes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeUpdated:
    """A node said how it is; also how a new one appears, and a suspect or lost one returns."""

    node: Node


@dataclass(frozen=True, slots=True)
class NodeSuspected:
    """A node is silent for longer than it should be: what it has it keeps, new work it gets not."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node fell silent or went away. Its answers say themselves that they were interrupted."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class LoadFinished:
    """A model is in memory, as a `Load` asked."""

    node_id: NodeId
    key: ModelKey
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A `Load` did not work; the node has the last word on its memory."""

    node_id: NodeId
    key: ModelKey
    error: PotluckError


@dataclass(frozen=True, slots=True)
class SpeedMeasured:
    """How fast an answer came; said before it ends, while those beside it are known."""

    node_id: NodeId
    key: ModelKey
    answer_tokens: int
    decode_seconds: float
    prompt_tokens: int
    """Of the prompt, those that were computed and not found in the cache."""
    prefill_seconds: float
    busy: int = 0
    """Answers that were written beside each other; 0 means those that sit there by the core."""


# --- requests ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestSubmitted:
    """An answer wants a place."""

    request: Request
    restored: PotluckError | None = None
    """Set for an answer that an earlier scheduler left under way: what its viewer would be told if
    it went no further."""


class Cause(StrEnum):
    """Why an answer lost its place."""

    NODE_LOST = "node lost"
    ENGINE_DIED = "engine died"
    STALLED = "stalled"
    TURNED_AWAY = "turned away"
    """The node did not take it, or gave it back: drained, unloaded, out of memory."""
    MISBEHAVED = "misbehaved"
    """What came from the node cannot be."""


@dataclass(frozen=True, slots=True)
class RequestInterrupted:
    """An answer lost its place."""

    generation_id: GenerationId
    cause: Cause
    error: PotluckError
    """What the viewer would be told if it went no further."""
    tokens: int
    """What it has."""
    begun: bool = True
    """Whether the node had begun to work on it: only then it may be what broke the node."""
    prefix: tuple[int, ...] = ()
    """The conversation's beginnings, with what the answer has."""


@dataclass(frozen=True, slots=True)
class RequestStalled:
    """An answer makes no progress where it is, and would go elsewhere if there is a place."""

    generation_id: GenerationId


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """An answer ended, however; also how one that waits is withdrawn. Said once for each."""

    generation_id: GenerationId
    answer_tokens: int = 0
    prefix: tuple[int, ...] = ()
    """The conversation's beginnings, with the answer: what the node's cache now knows."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened for a moment: look again at what waits."""


Event = (
    NodeUpdated
    | NodeSuspected
    | NodeLost
    | LoadFinished
    | LoadFailed
    | SpeedMeasured
    | RequestSubmitted
    | RequestInterrupted
    | RequestStalled
    | RequestEnded
    | TimePassed
)

# --- instructions ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start the answer at the place decided on, or let it go on there.

    An answer that has a place still, since its node is drained or its engine stalls, leaves it.
    """

    generation_id: GenerationId
    node_id: NodeId
    decision: Decision


@dataclass(frozen=True, slots=True)
class Queue:
    """Let the answer wait."""

    generation_id: GenerationId
    decision: Decision
    position: int
    """Requests that are served before it."""
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Free what is named, then load a model; report a `LoadFinished` or `LoadFailed`."""

    node_id: NodeId
    key: ModelKey
    evict: tuple[ModelKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the answer with the decision's error."""

    generation_id: GenerationId
    decision: Decision


Instruction = Dispatch | Queue | Load | Refuse
