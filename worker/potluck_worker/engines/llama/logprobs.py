"""Log probabilities of the model's own distribution."""

from __future__ import annotations

import numpy as np

from potluck_worker.engines.base import TokenLogprobs
from potluck_worker.engines.llama.candidates import Logits, likeliest


def token_logprobs(logits: Logits, token: int, alternatives: int) -> TokenLogprobs:
    """Return natural logarithms of probabilities, before any sampling option.

    Args:
        logits: The model's, for the whole vocabulary.
        token: The token that was drawn; it stands first.
        alternatives: How many of the likeliest tokens follow.
    """
    highest = logits.max()
    # In float32 for speed, summed pairwise by numpy: the error is some 1e-6.
    total = float(highest) + float(np.log(np.exp(logits - highest).sum()))
    best = likeliest(logits, alternatives)
    best = best[np.lexsort((best, -logits[best]))]
    ids = [token, *best.tolist()]
    return TokenLogprobs(ids, (logits[ids].astype(np.float64) - total).tolist())
