"""One answer under way in the vLLM engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from potluck_worker.engines.base import (
    EndReason,
    Finished,
    Generate,
    Produced,
    RequestId,
    Started,
    TokenLogprobs,
)
from potluck_worker.engines.text import AnswerText
from potluck_worker.engines.vllm.tokens import TokenText


@dataclass(slots=True, eq=False)
class Answer:
    """A request that vLLM has, or that ended before it got it."""

    request: Generate
    prompt_length: int
    length: int
    """Tokens of the answer, those from before a move counted in."""
    context_length: int
    tokens: TokenText
    text: AnswerText
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_token: float | None = None
    cached: int = 0
    """Tokens of the prompt that were in the cache already."""
    owed: str = ""
    """Text of the tokens from before a move that was not given out there."""

    @property
    def id(self) -> RequestId:
        """The request's id."""
        return self.request.request_id

    @property
    def tokens_left(self) -> int:
        """Tokens that the answer may still have."""
        limit = self.request.sampling.max_tokens
        room = self.context_length - self.prompt_length - self.length
        return room if limit is None else min(room, limit - self.length)

    def resume(self) -> None:
        """Bring the text of an answer that moved here to where its tokens are."""
        request = self.request
        pieces = (
            map(self.tokens.push, request.continue_token_ids)
            if request.continue_token_ids
            else [request.continue_text]
        )
        self.owed = self.text.resume(map(str.encode, pieces), request.continue_text)

    def begin(self, cached: int, now: float) -> list[Started | Produced]:
        """Return the frames with which the answer begins.

        Args:
            cached: Tokens that were in the cache already, the answer so far counted in.
            now: When its prefill began, of the monotonic clock.
        """
        self.started = now
        self.cached = min(cached, self.prompt_length)
        started = Started(self.id, self.prompt_length, self.cached)
        if not self.owed:
            return [started]
        offset = len(self.request.continue_text)
        return [started, Produced(self.id, self.length, [], offset, self.owed)]

    def take(self, token: int, logprobs: Sequence[TokenLogprobs]) -> Produced:
        """Take a token that was drawn."""
        if self.first_token is None:
            self.first_token = time.monotonic()
        index, offset = self.length, self.text.length
        self.length += 1
        text = self.text.push(self.tokens.push(token).encode())
        return Produced(self.id, index, [token], offset, text, logprobs)

    def end_so_far(self) -> EndReason | None:
        """Say why the answer ends with the tokens that it has, if it does."""
        if self.text.stop_string:
            return "stop_string"
        limit = self.request.sampling.max_tokens
        if limit is not None and self.length >= limit:
            return "max_tokens"
        if self.prompt_length + self.length >= self.context_length:
            return "context_full"
        return None

    def finish(self, reason: EndReason) -> list[Produced | Finished]:
        """Return the frames that end the request."""
        events: list[Produced | Finished] = []
        if not self.text.stop_string:
            offset = self.text.length
            rest = self.text.push(self.tokens.finish().encode())
            rest += "" if self.text.stop_string else self.text.finish()
            if rest:
                events.append(Produced(self.id, self.length, [], offset, rest))
        now = time.monotonic()
        started = self.started or now
        first = self.first_token or now
        return [
            *events,
            Finished(
                self.id,
                reason,
                self.text.stop_string if reason == "stop_string" else "",
                prompt_tokens=self.prompt_length,
                cached_prompt_tokens=self.cached,
                completion_tokens=self.length,
                queue_seconds=started - self.submitted,
                prefill_seconds=first - started,
                decode_seconds=now - first,
            ),
        ]
