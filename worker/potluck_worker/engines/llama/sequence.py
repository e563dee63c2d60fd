"""One answer under way in the llama.cpp engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from potluck_worker.engines.base import EndReason, Failure, Finished, Generate, Produced
from potluck_worker.engines.llama.cache import Held
from potluck_worker.engines.llama.sampling import Sampler
from potluck_worker.engines.text import AnswerText


@dataclass(slots=True, eq=False)
class Sequence:
    """A request whose prompt is made: it waits, or has a place in the KV cache.

    `tokens` is the prompt and the answer so far; the first `decoded` of them are in the cache.
    While more than one is not, it is in prefill.
    """

    request: Generate
    tokens: list[int]
    prompt_length: int
    """Tokens before the answer begins."""
    context_length: int
    sampler: Sampler
    text: AnswerText
    submitted: float
    held: Held | None = None
    """Its place in the cache; `None` while it waits."""
    cached: int = 0
    """Tokens of the prompt that were in the cache already."""
    started: float | None = None
    first_token: float | None = None
    end: EndReason | None = None
    failure: Failure | None = None

    @property
    def decoded(self) -> int:
        """Tokens that are in the cache."""
        return len(self.held.tokens) if self.held else 0

    @property
    def in_prefill(self) -> bool:
        """Whether the next step computes prompt tokens rather than the newest token."""
        return len(self.tokens) - self.decoded > 1

    @property
    def answer_length(self) -> int:
        """Tokens of the answer, those from before a move counted in."""
        return len(self.tokens) - self.prompt_length

    def end_so_far(self) -> EndReason | None:
        """Say why the answer ends with the tokens that it has, if it does."""
        if self.text.stop_string:
            return "stop_string"
        limit = self.request.sampling.max_tokens
        if limit is not None and self.answer_length >= limit:
            return "max_tokens"
        return "context_full" if len(self.tokens) >= self.context_length else None

    def finish(self) -> Iterator[Produced | Finished]:
        """Free the sampler; yield the frames that end the request."""
        self.sampler.close()
        request_id, offset = self.request.request_id, self.text.length
        if rest := "" if self.text.stop_string else self.text.finish():
            yield Produced(request_id, self.answer_length, [], offset, rest)
        now = time.monotonic()
        started = self.started or now
        first = self.first_token or now
        yield Finished(
            request_id=request_id,
            reason=self.end or "failed",
            stop_string=self.text.stop_string,
            failure=self.failure,
            prompt_tokens=self.prompt_length,
            cached_prompt_tokens=self.cached,
            completion_tokens=self.answer_length,
            queue_seconds=started - self.submitted,
            prefill_seconds=first - started,
            decode_seconds=now - first,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """What one sequence has in the batch of a step."""

    sequence: Sequence
    tokens: list[int]
    row: int | None
    """Where its logits will be, if the part ends with its newest token."""

    def keep(self) -> None:
        """Note that the tokens are in the cache now."""
        assert self.sequence.held is not None
        self.sequence.held.tokens += self.tokens
