"""How much of a prompt a step takes, measured in time.

Answers and prompts take turns: a step of the newest token of each answer, then a step of prompts.
While nobody decodes, a step of prompts may take as long as a cancellation may wait. While others
decode, it may take as long as their own steps do, so that their tokens come at half the pace for a
moment, or down to ten a second where they are faster; the more prompts wait for each answer that
speaks, the more they get.
"""

from __future__ import annotations

ALONE_SECONDS = 0.5
"""What a step of prompts may take when nobody waits for a next token."""

SHARED_SECONDS = 0.1
"""What a step of answers and one of prompts may always take together. Ten tokens a second are more
than people read, and pieces of answers are sent on every 50 ms at most."""

SMALLEST_CHUNK_TOKENS = 16
"""Prompt tokens that a step takes however slow the machine is, so that prefill gets on."""

TILE_TOKENS = 64
"""llama.cpp's flash attention computes so many together on a processor, and fewer one by one.
Measured with 135M parameters on two cores: 60 tokens take 125 ms, 64 take 106."""

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
        """Return how many prompt tokens the next step of prompts takes.

        Args:
            decoding: Sequences that wait meanwhile for their next token.
            prefilling: Sequences that have prompt left.
            least: What it takes however slow the machine is.
        """
        if not prefilling:
            return 0
        seconds = ALONE_SECONDS
        if decoding:
            share = self._decode_seconds * max(1.0, prefilling / decoding)
            seconds = min(seconds, max(share, SHARED_SECONDS - self._decode_seconds))
        tokens = int(seconds / self._prompt_token_seconds)
        if TILE_TOKENS / 3 <= tokens < TILE_TOKENS:
            return TILE_TOKENS  # little slower than the fewer, and half as many steps in all
        return max(least, tokens)

    def learn_decoding(self, seconds: float) -> None:
        """Take in how long a step of answers took."""
        self._decode_seconds = _towards(self._decode_seconds, seconds)

    def learn_prefill(self, tokens: int, seconds: float) -> None:
        """Take in how long a step of so many prompt tokens took."""
        if tokens >= SMALLEST_CHUNK_TOKENS:
            token_seconds = seconds / tokens
            self._prompt_token_seconds = _towards(self._prompt_token_seconds, token_seconds)


def _towards(known: float, measured: float) -> float:
    return INERTIA * known + (1 - INERTIA) * measured
