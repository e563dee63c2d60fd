"""GGUF files of well-known models: their headers, with the mixtures that llama.cpp quantizes to.

The weights themselves are holes in the files, so a model of 30B parameters takes some megabytes, as
its vocabulary does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType as FileType

from library.shapes import Known, Shape, Sizes
from lineages.gguf_file import add
from lineages.vocabularies import Vocabulary, byte_level
from potluck_worker.engines.gguf_names import GGUF_NAMES

BASES = {
    "F16": Kind.F16,
    "Q8_0": Kind.Q8_0,
    "Q6_K": Kind.Q6_K,
    "Q5_K_M": Kind.Q5_K,
    "Q4_K_M": Kind.Q4_K,
    "Q4_K_S": Kind.Q4_K,
    "Q4_0": Kind.Q4_0,
    "Q3_K_M": Kind.Q3_K,
    "Q2_K": Kind.Q2_K,
}
"""What most matrices of a scheme are stored as."""

WHERE_ROWS_DO_NOT_DIVIDE = {
    Kind.Q6_K: Kind.Q8_0,
    Kind.Q5_K: Kind.Q5_1,
    Kind.Q4_K: Kind.Q5_0,
    Kind.Q3_K: Kind.IQ4_NL,
    Kind.Q2_K: Kind.IQ4_NL,
}
"""What llama.cpp takes where a row is not made of whole blocks."""

GEMMA_NORMS = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")


def write_gguf(folder: Path, name: str, model: Known, scheme: str) -> Path:
    """Write the headers of a model in a scheme; return the file."""
    path, sizes = folder / f"{name}-{scheme}.gguf", model.sizes
    architecture = GGUF_NAMES[model.kind]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_file_type(FileType[f"MOSTLY_{scheme}"])
    for key, value in (*_card(name, model), *_metadata(architecture, model)):
        add(writer, key, value)
    size_bytes = 0
    for tensor, shape in _tensors(sizes):
        kind = _kind(tensor, shape, sizes, scheme)
        weights, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        tensor_bytes = math.prod(shape) // weights * block_bytes
        writer.add_tensor_info(tensor, shape, np.dtype(np.float32), tensor_bytes, raw_dtype=kind)
        size_bytes += gguf.GGUFWriter.ggml_pad(tensor_bytes, writer.data_alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        start = gguf.GGUFWriter.ggml_pad(file.seek(0, 2), writer.data_alignment)
        file.truncate(start + size_bytes)
    return path


@cache
def _vocabulary(size: int) -> Vocabulary:
    return byte_level(size, "llama-bpe")


def _card(name: str, model: Known) -> Iterator[tuple[str, Any]]:
    """Yield what the converter makes of the head of a README."""
    yield "general.name", name
    for key, said in model.card.items():
        if key == "base_model":
            maker, _, base = said.partition("/")
            yield "general.base_model.count", 1
            yield "general.base_model.0.name", base.replace("-", " ")
            yield "general.base_model.0.organization", maker
            yield "general.base_model.0.repo_url", f"https://huggingface.co/{said}"
        else:
            yield f"general.{key.replace('_', '.')}", said


def _metadata(architecture: str, model: Known) -> Iterator[tuple[str, Any]]:
    sizes = model.sizes
    said = {
        "context_length": sizes.context_length,
        "embedding_length": sizes.width,
        "block_count": sizes.layers,
        "feed_forward_length": sizes.hidden,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "attention.key_length": sizes.head_width,
        "attention.value_length": sizes.head_width,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": sizes.head_width,
    }
    if sizes.norms == len(GEMMA_NORMS):
        said["attention.sliding_window"] = 4096
    if sizes.experts:
        said |= {"expert_count": sizes.experts, "expert_used_count": sizes.used}
        said["expert_feed_forward_length"] = sizes.hidden
    yield from ((f"{architecture}.{key}", value) for key, value in said.items())
    vocabulary = dict(_vocabulary(sizes.vocabulary).metadata)
    if not model.template:
        del vocabulary["tokenizer.chat_template"]
    yield from vocabulary.items()


def _tensors(sizes: Sizes) -> Iterator[Shape]:
    """Yield the tensors of Llama and all that are made like it, as llama.cpp calls them."""
    yield "token_embd.weight", (sizes.vocabulary, sizes.width)
    yield "output_norm.weight", (sizes.width,)
    if not sizes.tied:
        yield "output.weight", (sizes.vocabulary, sizes.width)
    for layer in range(sizes.layers):
        yield from ((f"blk.{layer}.{name}", shape) for name, shape in _block(sizes))


def _block(sizes: Sizes) -> Iterator[Shape]:
    width, head = sizes.width, sizes.head_width
    for name, heads in (("q", sizes.heads), ("k", sizes.kv_heads), ("v", sizes.kv_heads)):
        yield f"attn_{name}.weight", (heads * head, width)
        if sizes.bias:
            yield f"attn_{name}.bias", (heads * head,)
    yield "attn_output.weight", (width, sizes.heads * head)
    if sizes.head_norms:
        yield "attn_q_norm.weight", (head,)
        yield "attn_k_norm.weight", (head,)
    yield from ((f"{name}.weight", (width,)) for name in GEMMA_NORMS[: sizes.norms])
    experts, each = ("_exps", (sizes.experts,)) if sizes.experts else ("", ())
    if experts:
        yield "ffn_gate_inp.weight", (sizes.experts, width)
    yield f"ffn_gate{experts}.weight", (*each, sizes.hidden, width)
    yield f"ffn_up{experts}.weight", (*each, sizes.hidden, width)
    yield f"ffn_down{experts}.weight", (*each, width, sizes.hidden)


def _kind(name: str, shape: tuple[int, ...], sizes: Sizes, scheme: str) -> Kind:
    """Return how llama.cpp stores a tensor in a scheme."""
    if len(shape) == 1 or "ffn_gate_inp" in name:
        return Kind.F32
    kind = _mixed(name, sizes, scheme)
    blocks = gguf.GGML_QUANT_SIZES[kind][0]
    return kind if shape[-1] % blocks == 0 else WHERE_ROWS_DO_NOT_DIVIDE[kind]


def _mixed(name: str, sizes: Sizes, scheme: str) -> Kind:
    """Return the type that a matrix gets by its place: some matter more than others."""
    if name == ("token_embd.weight" if sizes.tied else "output.weight"):
        return BASES[scheme] if scheme in ("F16", "Q8_0") else Kind.Q6_K
    if not name.startswith("blk."):
        return BASES[scheme]
    _, number, part = name.split(".", 2)
    if part == "attn_v.weight":
        return _of_values(sizes, scheme, int(number))
    if part.startswith("ffn_down"):
        return _of_downs(scheme, int(number), sizes.layers)
    outputs = {"Q2_K": Kind.Q3_K, "Q3_K_M": Kind.Q4_K} if part == "attn_output.weight" else BASES
    return outputs.get(scheme, BASES[scheme])


def _of_values(sizes: Sizes, scheme: str, layer: int) -> Kind:
    match scheme:
        case "Q4_K_M" | "Q5_K_M" if _uses_more_bits(layer, sizes.layers):
            return Kind.Q6_K
        case "Q4_K_S" if layer < 4:
            return Kind.Q5_K
        case "Q3_K_M":
            return Kind.Q5_K if layer < 2 else Kind.Q4_K
        case "Q2_K":
            return Kind.Q4_K if sizes.heads // sizes.kv_heads >= 4 else Kind.Q3_K
    return BASES[scheme]


def _of_downs(scheme: str, layer: int, layers: int) -> Kind:
    match scheme:
        case "Q4_K_M" | "Q5_K_M" if _uses_more_bits(layer, layers):
            return Kind.Q6_K
        case "Q4_K_S" if layer < layers // 8:
            return Kind.Q5_K
        case "Q3_K_M":
            return Kind.Q5_K if layer < layers // 16 else Kind.Q4_K
        case "Q2_K":
            return Kind.Q3_K
    return BASES[scheme]


def _uses_more_bits(layer: int, layers: int) -> bool:
    """Say whether a layer is of the first or last eighth, or each third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
