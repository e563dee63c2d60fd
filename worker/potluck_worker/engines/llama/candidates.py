"""The tokens to choose from, in the array that llama.cpp's samplers work on."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as api
from numpy.typing import NDArray

Logits = NDArray[np.float32]
TokenIds = NDArray[np.int32]

_ROW = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""`llama_token_data`."""


SAMPLED = 64
"""One of so many logits is looked at to guess how high the likeliest are."""


class Candidates:
    """One array, as long as the vocabulary, which all answers of an engine use in turn.

    Building it anew for each token would cost more than the sampling. Whoever fills it reads the
    result before another does; an engine has one thread.

    Args:
        size: Tokens in the vocabulary.

    Attributes:
        all_ids: Every token.
        changed: Room for a copy of the model's logits.
    """

    def __init__(self, size: int) -> None:
        self.all_ids: TokenIds = np.arange(size, dtype=np.int32)
        self.changed: Logits = np.empty(size, np.float32)
        self._rows = np.zeros(size, _ROW)
        self._ids = self._rows["id"]
        self._logits = self._rows["logit"]
        self._probabilities = self._rows["p"]
        self._address = int(self._rows.ctypes.data)
        self._data = ctypes.cast(self._address, api.llama_token_data_p)
        self._array = api.llama_token_data_array()
        self._reference = ctypes.byref(self._array)

    def fill(self, ids: TokenIds, logits: Logits) -> None:
        """Let the choice be among these."""
        count = len(ids)
        self._ids[:count] = ids
        self._logits[:count] = logits
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._data, count, -1, False

    def apply(self, sampler: Any) -> None:
        """Let a sampler of llama.cpp change logits, drop tokens, or select one."""
        api.llama_sampler_apply(sampler, self._reference)

    @property
    def ids(self) -> TokenIds:
        """What is left, in an order that samplers may have changed; gone at the next `fill`."""
        first = self._first
        return self._ids[first : first + self._array.size]

    @property
    def logits(self) -> Logits:
        """The logits of `ids`."""
        first = self._first
        return self._logits[first : first + self._array.size]

    @property
    def selected(self) -> tuple[int, float]:
        """The token that was selected, and its probability among those that were left."""
        at = self._first + self._array.selected
        return int(self._ids[at]), float(self._probabilities[at])

    @property
    def _first(self) -> int:
        """Where the array begins now: XTC drops tokens by moving its start."""
        return (ctypes.addressof(self._array.data.contents) - self._address) // _ROW.itemsize


def logits_of(context: Any, row: int, size: int) -> Logits:
    """Return the model's logits at `row` of the batch; they are gone at the next decoding."""
    pointer = api.llama_get_logits_ith(context, row)
    address = ctypes.cast(pointer, ctypes.c_void_p).value or 0
    values = memoryview((ctypes.c_float * size).from_address(address))
    return np.frombuffer(values, np.float32)


def likeliest(logits: Logits, count: int) -> NDArray[np.int64]:
    """Return where the `count` highest logits are, in no order; all where there are no more.

    A sample of the logits says how high about twice as many are. Choosing among those takes a
    third of the time of choosing among all; where the sample misled, all are gone through.
    """
    if not count or count >= len(logits):
        return np.arange(min(count, len(logits)))
    sample = logits[::SAMPLED]
    rank = min(len(sample), 2 * count // SAMPLED + 8)
    high = np.flatnonzero(logits >= np.partition(sample, -rank)[-rank])
    if len(high) < count:
        return np.argpartition(logits, -count)[-count:]
    return high[np.argpartition(logits[high], -count)[-count:]]
