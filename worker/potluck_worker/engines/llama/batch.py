"""The batch of one step: arrays that llama.cpp reads in place."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as api


class Batch:
    """Tokens to compute together, each with its position and sequence.

    Args:
        capacity: The most tokens in a step.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._gives_out = np.zeros(capacity, np.int8)
        self._counts = np.ones(capacity, np.int32)
        int_pointer = ctypes.POINTER(ctypes.c_int32)
        first = self._sequences.ctypes.data
        stride = self._sequences.itemsize
        self._rows = (int_pointer * capacity)(
            *(ctypes.cast(first + row * stride, int_pointer) for row in range(capacity))
        )
        self.native: Any = api.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(int_pointer),
            pos=self._positions.ctypes.data_as(int_pointer),
            n_seq_id=self._counts.ctypes.data_as(int_pointer),
            seq_id=ctypes.cast(self._rows, ctypes.POINTER(int_pointer)),
            logits=self._gives_out.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def __len__(self) -> int:
        return int(self.native.n_tokens)

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self.capacity - len(self)

    def clear(self) -> None:
        """Begin a new step."""
        self.native.n_tokens = 0

    def add(
        self,
        sequence: int,
        position: int,
        tokens: Sequence[int],
        *,
        wants_logits: bool = False,
        gives_vectors: bool = False,
    ) -> int:
        """Add tokens of one sequence; return the row of the last.

        Args:
            sequence: llama.cpp's number of the sequence.
            position: Where the first token stands in it.
            tokens: No more than there is room for.
            wants_logits: Whether the last token is to be followed by a draw.
            gives_vectors: Whether all tokens are to be embedded.
        """
        start = len(self)
        stop = start + len(tokens)
        self._tokens[start:stop] = tokens
        self._positions[start:stop] = range(position, position + len(tokens))
        self._sequences[start:stop] = sequence
        self._gives_out[start:stop] = gives_vectors
        self._gives_out[stop - 1] = wants_logits or gives_vectors
        self.native.n_tokens = stop
        return stop - 1
