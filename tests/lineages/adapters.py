"""LoRA adapters with random weights, and the models that they make of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from lineages.gguf_file import Tensor, write
from lineages.make import Lineage, metadata, tensors

RANK = 4
ALPHA = 8.0
"""What an adapter adds is multiplied by `ALPHA / RANK`."""

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]


def make_adapter(path: Path, lineage: Lineage) -> None:
    """Write an adapter that changes each matrix of the attention."""
    said = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": ALPHA}
    write(path, lineage.architecture, said, _factors(lineage))


def make_merged(path: Path, lineage: Lineage) -> None:
    """Write the model that a lineage's own becomes by its adapter."""
    factors = {name: values for name, values, _ in _factors(lineage)}
    write(path, lineage.architecture, metadata(lineage, path.stem), _merged(lineage, factors))


def _merged(lineage: Lineage, factors: dict[str, NDArray[np.float32]]) -> Iterator[Tensor]:
    for name, values, kind in tensors(lineage):
        if (down := factors.get(f"{name}.lora_a")) is not None:
            values += np.float32(ALPHA / RANK) * (factors[f"{name}.lora_b"] @ down)
        yield name, values, kind


def _factors(lineage: Lineage) -> Iterator[Tensor]:
    random = np.random.default_rng(2)
    for name, (rows, *columns) in lineage.layout.items():
        if "attn_" in name and columns:
            down = random.standard_normal((RANK, *columns), np.float32) * 0.1
            up = random.standard_normal((rows, RANK), np.float32) * 0.1
            yield f"{name}.lora_a", down, Kind.F32
            yield f"{name}.lora_b", up, Kind.F32
