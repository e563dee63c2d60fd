"""GGUF files from plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

Tensor = tuple[str, NDArray[np.float32], Kind]
"""A name, values, and what to quantize them to."""


def write(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Iterable[Tensor],
) -> None:
    """Write a file; values may be texts, numbers, truths, or lists of one of them."""
    writer = gguf.GGUFWriter(path, architecture, use_temp_file=False)
    for key, value in metadata.items():
        _add(writer, key, value)
    for name, values, kind in tensors:
        if kind in (Kind.F32, Kind.F16):
            writer.add_tensor(name, values.astype(np.float16 if kind is Kind.F16 else np.float32))
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            # An empty array has no type that could be guessed.
            if value:
                writer.add_array(key, value)
