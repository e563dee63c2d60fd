"""One answer under way in the llama.cpp engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from potluck_worker.engines.base import EndReason, Failure, Finished, Generate
from potluck_worker.engines.llama.sampling import Sampler
from potluck_worker.engines.text import AnswerText


@dataclass(slots=True)
class Sequence:
    """A request that has a slot.

    `tokens` is the prompt and the answer so far; the first `decoded` of them are in the KV cache.
    While more than one is not, the sequence is in prefill.
    """

    request: Generate
    slot: int
    tokens: list[int]
    prompt_length: int
    """Tokens before the answer begins."""
    decoded: int
    cached: int
    """Tokens that were in the KV cache already."""
    sampler: Sampler
    text: AnswerText
    max_tokens: int | None
    queued_seconds: float
    started: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    end: EndReason | None = None
    failure: Failure | None = None

    @property
    def in_prefill(self) -> bool:
        """Whether the next step computes prompt tokens rather than the newest token."""
        return len(self.tokens) - self.decoded > 1

    @property
    def answer_length(self) -> int:
        """Tokens of the answer, those from before a move counted in."""
        return len(self.tokens) - self.prompt_length

    def finished(self) -> Finished:
        """Return the frame that ends the request."""
        now = time.monotonic()
        first = self.first_token or now
        return Finished(
            request_id=self.request.request_id,
            reason=self.end or "failed",
            stop_string=self.text.stop_string,
            failure=self.failure,
            prompt_tokens=self.prompt_length,
            cached_prompt_tokens=self.cached,
            completion_tokens=self.answer_length,
            queue_seconds=self.queued_seconds,
            prefill_seconds=first - self.started,
            decode_seconds=now - first,
        )


@dataclass(slots=True)
class Slot:
    """A place for a sequence in the KV cache, which remembers what it holds.

    The tokens stay after an answer: the next turn of the same chat begins with them and computes
    only what is new.
    """

    number: int
    tokens: list[int] = field(default_factory=list)
    busy: bool = False
    last_used: float = 0.0
