"""Tiny models of every lineage, with random weights: real files that real engines run.

What they say is noise, but noise that depends on all that was said before, so a cache that lost
something shows. The end of a turn has a logit of zero, which is never the greatest: an answer is as
long as was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from lineages.gguf_file import Tensor, write
from lineages.vocabularies import Vocabulary

Layout = dict[str, tuple[int, ...]]
"""The shape of each tensor, rows first."""

SPREAD = 0.3
"""Standard deviation of weights: so wide that the best two logits are well apart."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model."""

    layers: int = 2
    width: int = 64
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    context_length: int = 1024

    @property
    def head(self) -> int:
        """The width of an attention head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """The width of the keys of all heads."""
        return self.head * self.kv_heads


@dataclass(frozen=True, slots=True)
class Lineage:
    """A kind of model.

    Attributes:
        architecture: Its name in files.
        metadata: What files say of it, without the architecture in front.
        layout: Its tensors.
        vocabulary: Its tokens.
    """

    architecture: str
    metadata: Mapping[str, Any]
    layout: Layout
    vocabulary: Vocabulary


def make(
    path: Path, lineage: Lineage, kind: Kind = Kind.F32, *, seed: int = 1, tensors_a_file: int = 0
) -> None:
    """Write a model whose matrices are quantized as `kind`; the same one for the same arguments."""
    said, weights = metadata(lineage, path.stem), tensors(lineage, kind, seed=seed)
    write(path, lineage.architecture, said, weights, tensors_a_file)


def metadata(lineage: Lineage, name: str) -> dict[str, Any]:
    """Return all that a file says beside its tensors."""
    own = {f"{lineage.architecture}.{key}": value for key, value in lineage.metadata.items()}
    return {"general.name": name, **own, **lineage.vocabulary.metadata}


def tensors(
    lineage: Lineage,
    kind: Kind = Kind.F32,
    *,
    seed: int = 1,
    spread: float = SPREAD,
    silent: Iterable[int] = (),
) -> Iterator[Tensor]:
    """Yield the weights.

    Args:
        lineage: What to make.
        kind: What matrices are quantized to.
        seed: Other weights for another seed.
        spread: Their standard deviation.
        silent: Tokens that are never the likeliest, beside the end of a turn.
    """
    random = np.random.default_rng(seed)
    for name, shape in lineage.layout.items():
        values = _values(name, shape, random, spread)
        if name == "token_embd.weight":
            values[[lineage.vocabulary.end, *silent]] = 0
        matrix = len(shape) > 1 and "conv" not in name and not name.endswith("ssm_a")
        yield name, values, kind if matrix else Kind.F32


def _values(
    name: str, shape: tuple[int, ...], random: np.random.Generator, spread: float
) -> NDArray[np.float32]:
    values: NDArray[Any]
    noise = random.standard_normal(shape, np.float32)
    if "norm" in name and not name.endswith("bias"):
        # Gemma multiplies the embedding by 8; what layers add to it must not drown in that.
        values = (30 if "post_" in name else 1) * (1 + noise / 10)
    elif name.endswith("ssm_a"):
        values = -np.exp(noise)  # so that states fade,
    elif name.endswith("ssm_dt.bias"):
        values = noise / 2 - 3  # and do it over tens of tokens
    else:
        values = noise * spread
    return values.astype(np.float32)
