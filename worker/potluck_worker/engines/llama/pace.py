"""How much of a prompt a step takes, measured in time.

While nobody decodes, a step of prefill may take as long as a cancellation may wait. While others
decode, it may take as long as their own steps do, so that their tokens come at half the pace for a
moment; the more prompts wait for each answer that speaks, the more they get.
"""

from __future__ import annotations

ALONE_SECONDS = 0.5
"""What a step of prefill may take when nobody waits for a next token."""

SHARED_SECONDS = 0.02
"""What prompts may always add to a step: on a fast machine its fixed cost would eat up less."""

SMALLEST_CHUNK_TOKENS = 16
"""Prompt tokens that a step takes however slow the machine is, so that prefill gets on."""

INERTIA = 0.7
"""Weight of what was known against what is measured."""


class Pace:
    """Learns from each step how fast the next may be.

    Args:
        token_seconds: What a step of one token took, a high guess at everything.
    """

    def __init__(self, token_seconds: float) -> None:
        self._decode_seconds = token_seconds
        self._prompt_token_seconds = token_seconds

    def prompt_tokens(
        self, decoding: int, prefilling: int, least: int = SMALLEST_CHUNK_TOKENS
    ) -> int:
        """Return how many prompt tokens the next step takes.

        Args:
            decoding: Sequences in it that get their next token.
            prefilling: Sequences that have prompt left.
            least: What it takes however slow the machine is.
        """
        if not prefilling:
            return 0
        seconds = ALONE_SECONDS
        if decoding:
            share = self._decode_seconds * max(1.0, prefilling / decoding)
            seconds = min(seconds, max(share, SHARED_SECONDS))
        return max(least, int(seconds / self._prompt_token_seconds))

    def learn(self, *, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """Take in what a step took.

        Args:
            decoding: Sequences in it that got their next token.
            prompt_tokens: Tokens of prompts in it.
            seconds: How long it took.
        """
        if prompt_tokens == 0:
            self._decode_seconds = _towards(self._decode_seconds, seconds)
        elif prompt_tokens >= SMALLEST_CHUNK_TOKENS:
            if decoding:
                # What the others' tokens would have taken by themselves is not the prompt's.
                seconds = max(seconds - self._decode_seconds, seconds / 4)
            token_seconds = seconds / prompt_tokens
            self._prompt_token_seconds = _towards(self._prompt_token_seconds, token_seconds)


def _towards(known: float, measured: float) -> float:
    return INERTIA * known + (1 - INERTIA) * measured
