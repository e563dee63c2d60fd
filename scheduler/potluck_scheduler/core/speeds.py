"""How fast a model is on a node, as learned from the answers that it gave.

The time of a token grows with the answers that are written beside it: a straight line, fitted to
what was measured, with old measurements fading. Before there is any, the line is a guess from the
size of the file and the kind of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from potluck_proto.ids import NodeId
from potluck_scheduler.core.model import Model, ModelKey, Node

FADE = 0.1
"""The weight of a new measurement against all before it."""

PAIRS_KEPT = 10_000
"""Pairs of node and model that are remembered, at most: the oldest go first."""

ANSWER_TOKENS = 256
"""How long an answer is thought to be before one has ended."""

READ_BYTES_PER_SECOND = {"cpu": 20e9, "metal": 200e9, "vulkan": 250e9, "rocm": 500e9, "cuda": 500e9}
"""A token reads all weights once: the memory's speed bounds the model's. Guesses."""

PREFILL_FACTOR = 10.0
"""Reading a prompt is about so much faster than writing. A guess."""

CROWDING = 0.15
"""Each further answer slows the others by about this part. A guess."""

DISK_BYTES_PER_SECOND = 5e8
START_SECONDS = 1.0
"""What a load takes before it reads. A guess."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was learned of one model on one node."""

    samples: int = 0
    busy: float = 1.0
    """Answers beside each other, on average; the next three likewise weighted by newness."""
    token_seconds: float = 0.0
    busy_variance: float = 0.0
    covariance: float = 0.0
    prefill_token_seconds: float = 0.0
    load_seconds: float = 0.0

    def measured(self, busy: int, token_seconds: float) -> Speed:
        """Return this with a further measurement."""
        fade = max(FADE, 1 / (self.samples + 1))
        off, late = busy - self.busy, token_seconds - self.token_seconds
        return replace(
            self,
            samples=self.samples + 1,
            busy=self.busy + fade * off,
            token_seconds=self.token_seconds + fade * late,
            busy_variance=(1 - fade) * (self.busy_variance + fade * off * off),
            covariance=(1 - fade) * (self.covariance + fade * off * late),
        )

    def seconds_per_token(self, busy: int) -> float:
        """Return what a token takes with so many answers beside each other."""
        each = CROWDING * self.token_seconds / (1 + CROWDING * (self.busy - 1))
        if self.busy_variance > 0.05:
            each = max(0.0, self.covariance / self.busy_variance)
        # The line may not promise more than a lone answer could have.
        least = self.token_seconds / (1 + max(0.0, self.busy - 1))
        return max(least, self.token_seconds + each * (busy - self.busy))


Pair = tuple[NodeId, ModelKey]


class Speeds:
    """What was learned of all models on all nodes.

    Args:
        known: What was learned before.
    """

    def __init__(self, known: Mapping[Pair, Speed] | None = None) -> None:
        self._speeds = dict(known or {})
        self._answer_tokens: dict[ModelKey, float] = {}
        self._changed: set[Pair] = set()

    def copy(self) -> Speeds:
        """Return what is known as it is now."""
        other = Speeds(self._speeds)
        other._answer_tokens = dict(self._answer_tokens)
        return other

    def get(self, pair: Pair) -> Speed | None:
        """Return what was learned of a model on a node."""
        return self._speeds.get(pair)

    def learn_answer(self, pair: Pair, busy: int, tokens: int, seconds: float) -> None:
        """Note how fast tokens were written."""
        if tokens > 0 and seconds > 0:
            self._keep(pair, (self._speeds.get(pair) or Speed()).measured(busy, seconds / tokens))

    def learn_prefill(self, pair: Pair, tokens: int, seconds: float) -> None:
        """Note how fast a prompt was read."""
        if tokens > 0 and seconds > 0:
            speed = self._speeds.get(pair) or Speed()
            known, new = speed.prefill_token_seconds, seconds / tokens
            learned = known + FADE * (new - known) if known else new
            self._keep(pair, replace(speed, prefill_token_seconds=learned))

    def learn_load(self, pair: Pair, seconds: float) -> None:
        """Note how long a load took."""
        self._keep(pair, replace(self._speeds.get(pair) or Speed(), load_seconds=seconds))

    def learn_length(self, key: ModelKey, tokens: int) -> None:
        """Note how long an answer became."""
        known = self._answer_tokens.pop(key, ANSWER_TOKENS)
        self._answer_tokens[key] = known + FADE * (tokens - known)
        if len(self._answer_tokens) > PAIRS_KEPT:
            del self._answer_tokens[next(iter(self._answer_tokens))]

    def answer_tokens(self, key: ModelKey, limit: int = 0) -> float:
        """Return how long an answer is likely to become."""
        usual = self._answer_tokens.get(key, ANSWER_TOKENS)
        return min(usual, limit) if limit else usual

    def seconds_per_token(self, node: Node, model: Model, busy: int) -> float:
        """Return what a token takes with so many answers beside each other."""
        speed = self._speeds.get((node.node_id, model.key))
        if speed is not None and speed.samples:
            return speed.seconds_per_token(busy)
        return _guessed_token_seconds(node, model) * (1 + CROWDING * (busy - 1))

    def prefill_seconds_per_token(self, node: Node, model: Model) -> float:
        """Return what a token of a prompt takes to read."""
        speed = self._speeds.get((node.node_id, model.key))
        if speed is not None and speed.prefill_token_seconds:
            return speed.prefill_token_seconds
        return self.seconds_per_token(node, model, 1) / PREFILL_FACTOR

    def load_seconds(self, node: Node, model: Model) -> float:
        """Return what a load takes."""
        speed = self._speeds.get((node.node_id, model.key))
        if speed is not None and speed.load_seconds:
            return speed.load_seconds
        return START_SECONDS + model.file_bytes / DISK_BYTES_PER_SECOND

    def take_changed(self) -> dict[Pair, Speed]:
        """Return what was learned since this was last asked."""
        changed, self._changed = self._changed, set()
        return {pair: self._speeds[pair] for pair in changed if pair in self._speeds}

    def _keep(self, pair: Pair, speed: Speed) -> None:
        self._speeds.pop(pair, None)
        self._speeds[pair] = speed
        self._changed.add(pair)
        if len(self._speeds) > PAIRS_KEPT:
            del self._speeds[next(iter(self._speeds))]

    def __len__(self) -> int:
        """Return how many pairs are remembered."""
        return len(self._speeds)


def _guessed_token_seconds(node: Node, model: Model) -> float:
    rate = READ_BYTES_PER_SECOND.get(node.accelerator, READ_BYTES_PER_SECOND["cpu"])
    return max(model.file_bytes, 1e6) / rate
