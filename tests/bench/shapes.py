"""Models with random weights and real shapes: as slow and as large, and cheap to have.

What they say is noise, in made-up words: the rows of bytes and of the token that would end a turn
are zero, so their logits are never the greatest, and an answer is as long as was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

EOS = 256
SPREAD = 0.02
"""Standard deviation of weights, as models are initialised with."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a llama model."""

    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int
    context_length: int = 8192


SHAPES = {
    "tiny": Shape(2, 64, 128, 4, 2, 512),
    "135m": Shape(30, 576, 1536, 9, 3, 49_152),
    "0.5b": Shape(24, 896, 4864, 14, 2, 151_936),
    "1b": Shape(16, 2048, 8192, 32, 8, 128_256),
}


def make(
    path: Path,
    shape: Shape,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
) -> None:
    """Write a model whose matrices are quantized as `kind`; the same one for the same arguments."""
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=False)
    writer.add_name(path.stem)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.name}"))
    _add_tokenizer(writer, shape.vocabulary)
    random = np.random.default_rng(1)
    for name, rows, columns in _matrices(shape):
        values = random.standard_normal((rows, columns), np.float32) * SPREAD
        if name == "token_embd.weight":
            values[: EOS + 1] = 0
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    for name in _norms(shape):
        writer.add_tensor(name, np.ones(shape.width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _matrices(shape: Shape) -> Iterator[tuple[str, int, int]]:
    kv_width = shape.width // shape.heads * shape.kv_heads
    yield "token_embd.weight", shape.vocabulary, shape.width
    for layer in range(shape.layers):
        yield f"blk.{layer}.attn_q.weight", shape.width, shape.width
        yield f"blk.{layer}.attn_k.weight", kv_width, shape.width
        yield f"blk.{layer}.attn_v.weight", kv_width, shape.width
        yield f"blk.{layer}.attn_output.weight", shape.width, shape.width
        yield f"blk.{layer}.ffn_gate.weight", shape.hidden, shape.width
        yield f"blk.{layer}.ffn_up.weight", shape.hidden, shape.width
        yield f"blk.{layer}.ffn_down.weight", shape.width, shape.hidden


def _norms(shape: Shape) -> Iterator[str]:
    yield "output_norm.weight"
    for layer in range(shape.layers):
        yield f"blk.{layer}.attn_norm.weight"
        yield f"blk.{layer}.ffn_norm.weight"


def _add_tokenizer(writer: gguf.GGUFWriter, size: int) -> None:
    """Add a byte-level vocabulary: bytes, one end of turn, and words that no text has."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    texts = [chr(byte if byte in letters else next(others)) for byte in range(256)]
    texts.append("<|end|>")
    texts += [f"w{number}" for number in range(size - len(texts))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    types = [gguf.TokenType.NORMAL] * size
    types[EOS] = gguf.TokenType.CONTROL
    writer.add_token_types(types)
    # A word is made by this merge alone, which no text of ours contains.
    writer.add_token_merges(["w 0"])
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0].content }}")
