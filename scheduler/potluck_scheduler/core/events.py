"""What the core is told, and what it tells the outside to do."""

from __future__ import annotations

from dataclasses import dataclass

from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.model import Decision, Node, Request


@dataclass(frozen=True, slots=True)
class NodeUpdated:
    """A node said how it is; also how a new one appears."""

    node: Node


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node fell silent or went away. Its requests end by themselves."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class RequestSubmitted:
    """An answer wants a place."""

    request: Request


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """An answer ended, however; said exactly once for each one that was placed."""

    generation_id: GenerationId


Event = NodeUpdated | NodeLost | RequestSubmitted | RequestEnded


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start the answer at the place decided on."""

    generation_id: GenerationId
    decision: Decision


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the answer with the decision's error."""

    generation_id: GenerationId
    decision: Decision


Instruction = Dispatch | Refuse
