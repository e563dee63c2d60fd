"""What was decided and why: the one object from which every text about a decision is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from potluck_proto.errors import PotluckError
from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import ModelKey


class Step(StrEnum):
    """The step of the policy that decided."""

    WARM = "warm"
    COLD_FITS = "cold_fits"
    AFTER_EVICTION = "after_eviction"
    PARTLY_OFFLOADED = "partly_offloaded"
    QUEUED = "queued"
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
    """One decision."""

    model: ModelKey
    step: Step
    summary: str
    """The line under the answer."""
    candidates: tuple[Candidate, ...] = ()
    """The nodes that were looked at, the chosen one first."""
    others: int = 0
    """Nodes that are not among the candidates: in a large pool only the nearest are listed."""
    node_id: NodeId | None = None
    """The chosen node; `None` for a refusal, and in the queue."""
    node_name: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A place, a place in the queue, or the reason why there is none.

    `error` is set exactly for a refusal.
    """

    explanation: Explanation
    error: PotluckError | None = None
    evict: tuple[ModelKey, ...] = ()
    """What must leave the node's memory before the load."""

    @property
    def step(self) -> Step:
        """The step that decided."""
        return self.explanation.step
