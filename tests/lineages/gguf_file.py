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

RANDOM_BLOCKS = (Kind.IQ2_XXS, Kind.IQ2_XS, Kind.IQ2_S, Kind.IQ3_XXS)
"""What `gguf` cannot quantize to: it gets random blocks, which are as good for random weights."""


def write(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Iterable[Tensor],
    tensors_a_file: int = 0,
) -> None:
    """Write a file.

    Args:
        path: Where to. A split model gets the numbers of its parts before the ending.
        architecture: What the file says it is.
        metadata: Texts, numbers, truths, or lists of one of them.
        tensors: The weights.
        tensors_a_file: Split the model into files of so many; 0 is one file.
    """
    writer = gguf.GGUFWriter(
        path, architecture, use_temp_file=False, split_max_tensors=tensors_a_file
    )
    for key, value in metadata.items():
        add(writer, key, value)
    for name, values, kind in tensors:
        if kind in (Kind.F32, Kind.F16):
            writer.add_tensor(name, values.astype(np.float16 if kind is Kind.F16 else np.float32))
        else:
            blocks = _random_blocks if kind in RANDOM_BLOCKS else gguf.quantize
            writer.add_tensor(name, blocks(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _random_blocks(values: NDArray[np.float32], kind: Kind) -> NDArray[np.uint8]:
    """Return random blocks that are about as large as the values, which they are not."""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    blocks = np.random.default_rng(1).integers(0, 256, (rows, columns // weights, size), np.uint8)
    # Each begins with its scale. Numbers within go to about 40.
    blocks[..., :2] = np.array([values.std() / 40], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Add a text, a number, a truth, or a list of one of them, by its type."""
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
