"""Models with random weights and real shapes: as slow and as large, and cheap to have.

What they say is noise, in made-up words: the rows of bytes and of the token that would end a turn
are zero, so their logits are never the greatest, and an answer is as long as was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType

from lineages.gguf_file import write
from lineages.kinds import llama
from lineages.make import Shape, metadata, tensors
from lineages.vocabularies import byte_level

SPREAD = 0.02
"""Standard deviation of weights, as models are initialised with."""


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of a llama model."""

    shape: Shape
    vocabulary: int


SHAPES = {
    "tiny": Size(Shape(2, 64, 128, 4, 2, 8192), 512),
    "135m": Size(Shape(30, 576, 1536, 9, 3, 8192), 49_152),
    "0.5b": Size(Shape(24, 896, 4864, 14, 2, 8192), 151_936),
    "1b": Size(Shape(16, 2048, 8192, 32, 8, 8192), 128_256),
}


def make(path: Path, size: Size, kind: Kind = Kind.Q8_0) -> None:
    """Write a model whose matrices are quantized as `kind`; the same one for the same arguments."""
    lineage = llama(size.shape, byte_level(size.vocabulary))
    said = metadata(lineage, path.stem)
    said["general.file_type"] = int(LlamaFileType[f"MOSTLY_{kind.name}"])
    said["tokenizer.chat_template"] = "{{ messages[0].content }}"
    write(path, "llama", said, tensors(lineage, kind, spread=SPREAD, silent=range(256)))
