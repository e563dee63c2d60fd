"""The KV cache of one context: who is in it, and what a new prompt finds there already.

All sequences share one cache. What an answer leaves behind stays, under its sequence id, until its
cells are needed: the next turn of the same chat, or another chat with the same beginning, computes
only what is new. Cells of a common beginning exist once, however many sequences have it, so the
sequences form a tree by their prefixes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from llama_cpp import llama_cpp as api

from potluck_worker.engines.llama.vocabulary import common_prefix


@dataclass(slots=True, eq=False)
class Held:
    """A sequence of the cache.

    Attributes:
        id: llama.cpp's number of it.
        tokens: What it holds, in order.
        busy: Whether an answer is under way in it.
        lent: How many of its tokens lie in cells of the sequence that it was copied from.
    """

    id: int
    tokens: list[int] = field(default_factory=list)
    busy: bool = False
    lent: int = 0
    last_used: float = 0.0


class KVCache:
    """Hands out sequences that hold as much of a prompt as is known.

    Args:
        context: llama.cpp's context, with a unified cache.
        sequences: Sequence ids that the context has.
        divisible: Whether a sequence can be cut and copied in part. A recurrent state cannot: it
            is of use to a prompt that goes on from its very end, and to no other.
    """

    def __init__(self, context: Any, *, sequences: int, divisible: bool) -> None:
        self._memory: Any = api.llama_get_memory(context)
        self._divisible = divisible
        self._all = [Held(number) for number in range(sequences)]

    def take(self, tokens: list[int]) -> Held:
        """Return a sequence, busy from now on, that holds as much of `tokens` as is known.

        The last token is never in it: it must be computed for its logits. The caller sees to it
        that fewer sequences are busy than there are.
        """
        known = {held.id: self._known(held, tokens) for held in self._all}
        best = max(self._all, key=lambda held: (known[held.id], -held.last_used))
        length = known[best.id]
        if not best.busy and length == len(best.tokens):
            best.busy = True
            return best
        free = [held for held in self._all if not held.busy]
        # An empty one, else the one that nobody used for longest, and that which is known last.
        target = min(free, key=lambda held: (bool(held.tokens), held is best, held.last_used))
        if target is best:
            api.llama_memory_seq_rm(self._memory, target.id, length, -1)
            target.lent = min(target.lent, length)
        else:
            self.clear(target)
            if length:
                api.llama_memory_seq_cp(self._memory, best.id, target.id, 0, length)
            target.lent = length
        target.tokens = tokens[:length]
        target.busy = True
        return target

    def _known(self, held: Held, tokens: list[int]) -> int:
        """Return how many of `tokens` a sequence could lend."""
        length = min(common_prefix(held.tokens, tokens), len(tokens) - 1)
        if not self._divisible and (held.busy or length < len(held.tokens)):
            return 0
        return length

    def release(self, held: Held) -> None:
        """Let go of a sequence; what it holds stays for whoever can use it."""
        held.busy = False
        held.last_used = time.monotonic()

    def clear(self, held: Held) -> None:
        """Forget what a sequence holds."""
        api.llama_memory_seq_rm(self._memory, held.id, -1, -1)
        held.tokens = []
        held.lent = 0

    @property
    def cells_used(self) -> int:
        """Cells that hold tokens, each counted once; at least so many."""
        return sum(len(held.tokens) - held.lent for held in self._all)

    def trim(self, limit_tokens: int) -> None:
        """Drop ended answers, oldest first, until the others have so many tokens at most."""
        kept = sum(len(held.tokens) for held in self._all if not held.busy)
        while kept > limit_tokens and (dropped := self.drop_oldest()):
            kept -= dropped

    def drop_oldest(self) -> int:
        """Drop the ended answer that nobody used for longest; return its tokens, 0 for none."""
        kept = [held for held in self._all if held.tokens and not held.busy]
        if not kept:
            return 0
        oldest = min(kept, key=lambda held: held.last_used)
        tokens = len(oldest.tokens)
        self.clear(oldest)
        return tokens
