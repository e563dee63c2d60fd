"""The devices that ggml computes on, and what a context takes of each.

Called in a child only: looking at a card sets up its driver, and holds memory of it.

llama.cpp counts the bytes of a context by kind of buffer (`llama_get_memory_breakdown`, from which
its own fitting works), but hands the result out as a C++ map. There is no other way to learn what a
dry run puts where: in it, the log says 0 for the weights and the cache of every device. So the map
is read here as it lies in memory, which the C++ library fixes: GNU's on Linux, LLVM's on macOS.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from potluck_proto.errors import PotluckError
from potluck_worker.engines.llama.ggml import function
from potluck_worker.engines.sizing import HOST, Card

TYPE_GPU, TYPE_IGPU = 1, 2
"""Of `ggml_backend_dev_type`; other devices compute in main memory, for the processor."""

_ACCELERATORS = {"CUDA": "cuda", "ROCm": "rocm", "Metal": "metal", "MTL": "metal"}
"""Kinds by the name of ggml's backend; Vulkan's and others' are their own, in small letters."""

_BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"


class _Properties(ctypes.Structure):
    """The beginning of `ggml_backend_dev_props`, and room for what follows."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("rest", ctypes.c_byte * 64),
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a context takes of one device."""

    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            self.weights_bytes + other.weights_bytes,
            self.kv_cache_bytes + other.kv_cache_bytes,
            self.compute_bytes + other.compute_bytes,
        )


_pointer = ctypes.c_void_p
_device_count = function("ggml_backend_dev_count", ctypes.c_size_t)
_device_at = function("ggml_backend_dev_get", _pointer, ctypes.c_size_t)
_device_name = function("ggml_backend_dev_name", ctypes.c_char_p, _pointer)
_device_type = function("ggml_backend_dev_type", ctypes.c_int, _pointer)
_device_backend = function("ggml_backend_dev_backend_reg", _pointer, _pointer)
_device_properties = function(
    "ggml_backend_dev_get_props", None, _pointer, ctypes.POINTER(_Properties)
)
_backend_name = function("ggml_backend_reg_name", ctypes.c_char_p, _pointer)
_buffer_type_device = function("ggml_backend_buft_get_device", _pointer, _pointer)
_buffer_type_is_host = function("ggml_backend_buft_is_host", ctypes.c_bool, _pointer)


def cards() -> list[Card]:
    """Return the devices with memory of their own, or with a share of main memory set apart."""
    found = []
    for index in range(_device_count()):
        device = _device_at(index)
        kind = _device_type(device)
        if kind not in (TYPE_GPU, TYPE_IGPU):
            continue
        properties = _Properties()
        _device_properties(device, properties)
        backend = _backend_name(_device_backend(device)).decode()
        accelerator = _ACCELERATORS.get(backend, backend.lower())
        found.append(
            Card(
                id=properties.name.decode(),
                name=properties.description.decode(),
                accelerator=accelerator,
                memory_total_bytes=properties.memory_total,
                memory_free_bytes=properties.memory_free,
                unified=kind == TYPE_IGPU or accelerator == "metal",
                bus_id=(properties.device_id or b"").decode(),
            )
        )
    return found


def breakdown(context: Any) -> dict[str, Taken]:
    """Return what a context and its model take, by device id; of a dry run, what they would take.

    Buffers that the processor reads are the host's, also those that a card's driver gave out. The
    buffer of logits is not among them: llama.cpp does not count it.
    """
    taken: dict[str, Taken] = {}
    for buffer_type, *sizes in map_entries(_breakdown()(context).words, LAYOUT):
        device = _buffer_type_device(buffer_type)
        on_host = (
            _buffer_type_is_host(buffer_type)
            or not device
            or _device_type(device) not in (TYPE_GPU, TYPE_IGPU)
        )
        device_id = HOST if on_host else _device_name(device).decode()
        taken[device_id] = taken.get(device_id, Taken()) + Taken(*sizes)
    return taken


# --- a C++ map, read in place ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MapLayout:
    """Where things are in `std::map` and in a node of its tree, in words of eight bytes."""

    words: int
    root: int
    """In the map."""
    left: int
    right: int
    entry: int = 4
    """In a node: the key, and the three sizes of `llama_memory_breakdown_data`."""


GNU = MapLayout(words=6, root=2, left=2, right=3)
LLVM = MapLayout(words=3, root=1, left=0, right=1)
LAYOUT = LLVM if sys.platform == "darwin" else GNU


class _Map(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint64 * LAYOUT.words),)


def _breakdown() -> Any:
    try:
        return function(_BREAKDOWN, _Map, _pointer)
    except AttributeError:
        raise PotluckError(
            "This version of llama.cpp does not say what a model takes of each device. "
            "Install the version of llama-cpp-python that Potluck names in its requirements."
        ) from None


def map_entries(words: Sequence[int], layout: MapLayout) -> Iterator[tuple[int, int, int, int]]:
    """Yield the entries of a map. It is never freed: a few hundred bytes for each question."""
    nodes = [words[layout.root]]
    while nodes:
        if (address := nodes.pop()) == 0:
            continue
        node = (ctypes.c_uint64 * (layout.entry + 4)).from_address(address)
        nodes += node[layout.left], node[layout.right]
        key, weights, cache, compute = node[layout.entry :]
        yield key, weights, cache, compute
