"""What stands in the header of a GGUF file and llama.cpp tells of no open model.

Read by ggml's own reader, as the model itself is: in a child.
"""

from __future__ import annotations

import ctypes
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potluck_worker.engines.llama.ggml import function
from potluck_worker.splits import parts_of

TYPE_STRING, TYPE_ARRAY = 8, 9
"""Values of `gguf_type`."""


class _Parameters(ctypes.Structure):
    """`gguf_init_params`."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class Header:
    """What the headers of all parts of a model say."""

    bytes_by_type: dict[str, int]
    """Of tensors, by how they are stored, such as `Q4_K`."""
    expert_weights: int
    """Weights that only some tokens pass through."""
    tags: Sequence[str]


def read_header(path: Path) -> Header:
    """Return what the header of a model says that llama.cpp has opened already."""
    sizes: Counter[str] = Counter()
    expert_weights = 0
    tags: Sequence[str] = ()
    for number, part in enumerate(parts_of(path)):
        with _opened(part) as file:
            for name, kind, size_bytes, weights in _tensors(file):
                sizes[kind] += size_bytes
                expert_weights += weights if "exps." in name else 0
            tags = tags if number else _texts(file, b"general.tags")
    return Header(dict(sizes.most_common()), expert_weights, tags)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    initialise = function("gguf_init_from_file", ctypes.c_void_p, ctypes.c_char_p, _Parameters)
    file = initialise(os.fsencode(path), _Parameters(no_alloc=True, context=None))
    try:
        yield file
    finally:
        function("gguf_free", None, ctypes.c_void_p)(file)


def _tensors(file: Any) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, type, bytes and weights of each tensor."""
    about = (ctypes.c_void_p, ctypes.c_int64)
    name_of = function("gguf_get_tensor_name", ctypes.c_char_p, *about)
    type_of = function("gguf_get_tensor_type", ctypes.c_int, *about)
    size_of = function("gguf_get_tensor_size", ctypes.c_size_t, *about)
    type_name = function("ggml_type_name", ctypes.c_char_p, ctypes.c_int)
    block_weights = function("ggml_blck_size", ctypes.c_int64, ctypes.c_int)
    block_bytes = function("ggml_type_size", ctypes.c_size_t, ctypes.c_int)
    count = function("gguf_get_n_tensors", ctypes.c_int64, ctypes.c_void_p)(file)
    for index in range(count if file else 0):
        kind, size_bytes = type_of(file, index), size_of(file, index)
        weights = size_bytes * block_weights(kind) // max(1, block_bytes(kind))
        name = (name_of(file, index) or b"").decode(errors="replace")
        yield name, (type_name(kind) or b"?").decode().upper(), size_bytes, weights


def _texts(file: Any, key: bytes) -> list[str]:
    """Return a list of texts of the metadata, empty where it is something else."""
    about = (ctypes.c_void_p, ctypes.c_int64)
    index = function("gguf_find_key", ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p)(file, key)
    if index < 0 or function("gguf_get_kv_type", ctypes.c_int, *about)(file, index) != TYPE_ARRAY:
        return []
    if function("gguf_get_arr_type", ctypes.c_int, *about)(file, index) != TYPE_STRING:
        return []
    count = function("gguf_get_arr_n", ctypes.c_size_t, *about)(file, index)
    text = function("gguf_get_arr_str", ctypes.c_char_p, *about, ctypes.c_size_t)
    return [
        text(file, index, number).decode(errors="replace") for number in range(min(count, 1000))
    ]
