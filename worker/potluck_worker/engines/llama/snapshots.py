"""Copies of what a sequence remembered near the end of its prompt, for models that cannot go back.

A recurrent state says nothing of an earlier place, and a sliding window has moved on from it. So an
answer that is asked for again, or the next turn of a chat whose template leaves out what the model
thought, would be computed from the beginning. With a copy of the state, or of the window, it goes
on from the place of the copy; what full attention remembers is there anyway, and is cut.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as api

PARTIAL = api.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
"""What cannot be cut, and not the rest."""

DISTANCE_TOKENS = 16
"""How far before the end of a prompt a copy is made. The next turn agrees with the prompt up to the
marks that open the answer, which are shorter than this."""

SHORTEST_TOKENS = 64
"""A shorter prompt is not worth it: to stop for a copy takes as long as to compute it again."""

LIMIT_BYTES = 256 * 2**20
"""What all copies of an engine may take; a larger one is not made. The recurrent state of a model
of 9B has some 75 MB, the window of Gemma 3 of 4B 119 MB."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a sequence remembered of its first `length` tokens."""

    length: int
    data: ctypes.Array[ctypes.c_uint8]


def room_for(each_bytes: int, sequences: int) -> int:
    """Return what copies take where one has so many bytes."""
    return min(LIMIT_BYTES, each_bytes * sequences) if each_bytes <= LIMIT_BYTES else 0


class Snapshots:
    """The copies of one context, one for a sequence at most.

    Args:
        context: llama.cpp's context.
        limit_bytes: What all of them may take.
    """

    def __init__(self, context: Any, limit_bytes: int = LIMIT_BYTES) -> None:
        self._context = context
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[int, Snapshot] = OrderedDict()

    def make(self, sequence: int, length: int) -> None:
        """Copy what a sequence remembers, after `length` tokens; the oldest copies make room."""
        self.drop(sequence)
        size = int(api.llama_state_seq_get_size_ext(self._context, sequence, PARTIAL))
        if size > self._limit_bytes:
            return
        while self._kept and self._bytes + size > self._limit_bytes:
            self._kept.popitem(last=False)
        data = (ctypes.c_uint8 * size)()
        if api.llama_state_seq_get_data_ext(self._context, data, size, sequence, PARTIAL):
            self._kept[sequence] = Snapshot(length, data)

    @property
    def _bytes(self) -> int:
        return sum(len(snapshot.data) for snapshot in self._kept.values())

    def length(self, sequence: int) -> int:
        """Return of how many tokens there is a copy; 0 for none."""
        snapshot = self._kept.get(sequence)
        return snapshot.length if snapshot else 0

    def restore(self, sequence: int) -> bool:
        """Let a sequence remember what it did at its copy; false if there is none, or no room."""
        snapshot = self._kept.get(sequence)
        if snapshot is None:
            return False
        size = len(snapshot.data)
        return bool(
            api.llama_state_seq_set_data_ext(self._context, snapshot.data, size, sequence, PARTIAL)
        )

    def drop(self, sequence: int) -> None:
        """Forget the copy of a sequence."""
        self._kept.pop(sequence, None)
