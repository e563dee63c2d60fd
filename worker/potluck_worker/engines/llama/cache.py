"""The KV cache of one context: who is in it, and what a new prompt finds there already.

All sequences share one cache. What an answer leaves behind stays, under its sequence id, until its
cells are needed: the next turn of the same chat, or another chat with the same beginning, computes
only what is new. Cells of a common beginning exist once, however many sequences have it, so the
sequences form a tree by their prefixes.

Two kinds of model remember less. Layers with a sliding window drop what lies behind it, so a
sequence can be cut only where it still holds the window before the cut; it is not copied either,
since cells of two sequences are never dropped. A recurrent state can be cut nowhere: a prompt can
only go on from its very end. Of both, a copy is kept from near the end of the prompt
(`snapshots.py`), and a prompt can go on from there as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from llama_cpp import llama_cpp as api

from potluck_worker.engines.llama import snapshots
from potluck_worker.engines.llama.snapshots import Snapshots
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
        divisible: Whether a sequence can be cut at all; a recurrent state cannot.
        window: Tokens that layers with a sliding window look back; 0 without such layers.
    """

    def __init__(self, context: Any, *, sequences: int, divisible: bool, window: int) -> None:
        self._memory: Any = api.llama_get_memory(context)
        self._divisible = divisible
        self._window = window
        self._snapshots = Snapshots(context)
        self._all = [Held(number) for number in range(sequences)]

    def take(self, tokens: list[int]) -> Held:
        """Return a sequence, busy from now on, that holds as much of `tokens` as is known.

        The last token is never in it: it must be computed for its logits. The caller sees to it
        that fewer sequences are busy than there are.
        """
        known = {held.id: self._known(held, tokens) for held in self._all}
        best = max(self._all, key=lambda held: (known[held.id], -held.last_used))
        length = known[best.id]
        target = self._place(best, length)
        goes_on = target is best and (length == len(best.tokens) or self._cut(best, length))
        if not goes_on:
            self.clear(target)
            if target is best or not self._copies:
                length = 0
            elif length:
                api.llama_memory_seq_cp(self._memory, best.id, target.id, 0, length)
                target.lent = length
        target.lent = min(target.lent, length)
        target.tokens = tokens[:length]
        target.busy = True
        return target

    def _place(self, best: Held, length: int) -> Held:
        """Return the sequence for a prompt of which `best` knows the first `length` tokens."""
        if not best.busy and length == len(best.tokens):
            return best
        target = self._idle(best)
        if self._copies or not length:
            return target
        # Nothing can be shared, so `best` itself is cut: if the prompt goes the same way to near
        # the end of its own, or if that saves more than it destroys.
        same = 0 < self._snapshots.length(best.id) <= length
        lost = len(best.tokens) - length
        return best if same or lost - length <= len(target.tokens) else target

    def take_empty(self) -> Held:
        """Return a sequence, busy from now on, that holds nothing."""
        target = self._idle()
        self.clear(target)
        target.busy = True
        return target

    @property
    def _copies(self) -> bool:
        """Whether a part of a sequence can be shared with another."""
        return self._divisible and not self._window

    def _idle(self, best: Held | None = None) -> Held:
        """Return an empty sequence, else that which nobody used for longest, `best` the last."""
        idle = [held for held in self._all if not held.busy]
        return min(idle, key=lambda held: (bool(held.tokens), held is best, held.last_used))

    def _known(self, held: Held, tokens: list[int]) -> int:
        """Return how many of `tokens` a sequence could lend."""
        length = min(common_prefix(held.tokens, tokens), len(tokens) - 1)
        if self._copies:
            return length
        if held.busy:
            return 0
        if length == len(held.tokens) or self._can_cut(held, length):
            return length
        copied = self._snapshots.length(held.id)
        return copied if copied <= length else 0

    def _cut(self, held: Held, length: int) -> bool:
        """Let a sequence hold its first `length` tokens and no more; false where it refuses."""
        copied = self._snapshots.length(held.id)
        if self._copies or self._can_cut(held, length):
            if copied > length:
                self._snapshots.drop(held.id)
        elif copied != length or not self._snapshots.restore(held.id):
            return False
        return bool(length and api.llama_memory_seq_rm(self._memory, held.id, length, -1))

    def _can_cut(self, held: Held, length: int) -> bool:
        """Say whether a sequence holds all that the token after its first `length` looks at."""
        first: int = api.llama_memory_seq_pos_min(self._memory, held.id)
        return self._divisible and first <= max(0, length - self._window)

    def release(self, held: Held) -> None:
        """Let go of a sequence; what it holds stays for whoever can use it."""
        held.busy = False
        held.last_used = time.monotonic()

    def clear(self, held: Held) -> None:
        """Forget what a sequence holds."""
        api.llama_memory_seq_rm(self._memory, held.id, -1, -1)
        held.tokens = []
        held.lent = 0
        self._snapshots.drop(held.id)

    def snapshot_place(self, prompt_length: int) -> int:
        """Return after how many tokens of a prompt a copy is due; 0 for never."""
        if self._copies or prompt_length < snapshots.SHORTEST_TOKENS:
            return 0
        return prompt_length - snapshots.DISTANCE_TOKENS

    def snapshot_if_due(self, held: Held | None, prompt_length: int) -> None:
        """Keep a copy of what a sequence remembers, if it is at that place of its prompt."""
        if held and len(held.tokens) == self.snapshot_place(prompt_length):
            self._snapshots.make(held.id, len(held.tokens))

    @property
    def cells_used(self) -> int:
        """Cells that hold tokens, each counted once; at least so many."""
        return sum(len(held.tokens) - held.lent for held in self._all)

    def trim(self, limit_tokens: int) -> None:
        """Drop ended answers, oldest first, to half of so many tokens once they have more.

        Answers that were made together lie in the cache token by token in turn. Dropped together
        they leave room in one piece; a prompt that fills the holes between others takes twice as
        long to compute, since attention passes over cells by the 64.
        """
        kept = sum(len(held.tokens) for held in self._all if not held.busy)
        if kept > limit_tokens:
            while kept > limit_tokens // 2 and (dropped := self.drop_oldest()):
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
