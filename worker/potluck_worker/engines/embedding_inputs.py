"""Texts to embed as tokens, and which of them cannot be embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potluck_proto.errors import BadRequest, ContextOverflow


def tokens_to_embed(
    inputs: Sequence[str], tokenize: Callable[[str], list[int]], model: str, longest: int
) -> list[list[int]]:
    """Return the tokens of each text.

    Args:
        inputs: The texts.
        tokenize: Returns the tokens of one.
        model: The model's name, for messages.
        longest: Tokens of the longest text.

    Raises:
        BadRequest: One is empty, or there is none.
        ContextOverflow: One is longer than the context.
    """
    if not inputs:
        raise BadRequest("The request has no inputs to embed.")
    found = []
    for number, text in enumerate(inputs, 1):
        tokens = tokenize(text) if text else []
        if not tokens:
            raise BadRequest(f"Input {number} is empty: there is nothing to embed.")
        if len(tokens) > longest:
            raise ContextOverflow(
                f"Input {number} is {len(tokens):,} tokens long; {model} embeds {longest:,} at "
                "most. Split it into shorter texts.",
                prompt_tokens=len(tokens),
                context_length=longest,
            )
        found.append(tokens)
    return found
