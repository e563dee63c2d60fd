"""One machine that is looked at: what the scheduler decided about it lately."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from potluck_proto.v1 import types_pb2
from potluck_tui.clean import clean
from potluck_tui.words import label

DECISIONS_ASKED = 20


class Outcome(StrEnum):
    """What a decision meant for one machine."""

    CHOSEN = "chosen"
    POSSIBLE = "passed over"
    REJECTED = "ruled out"


_OUTCOMES = {
    types_pb2.VERDICT_CHOSEN: Outcome.CHOSEN,
    types_pb2.VERDICT_POSSIBLE: Outcome.POSSIBLE,
}


@dataclass(frozen=True, slots=True)
class DecisionView:
    """A decision as it concerns one machine."""

    unix_seconds: float
    model: str
    outcome: Outcome
    reason: str

    @property
    def clock(self) -> str:
        """When it was, as a clock shows it here."""
        return time.strftime("%H:%M:%S", time.localtime(self.unix_seconds))

    @classmethod
    def from_proto(cls, explanation: types_pb2.Explanation, node_id: str) -> DecisionView | None:
        """Take an explanation apart; `None` where it does not concern the machine."""
        candidate = next((c for c in explanation.candidates if c.node_id == node_id), None)
        if candidate is None:
            return None
        return cls(
            unix_seconds=explanation.decided_unix_seconds,
            model=label(explanation.model, explanation.quantization),
            outcome=_OUTCOMES.get(candidate.verdict, Outcome.REJECTED),
            reason=clean(candidate.reason),
        )
