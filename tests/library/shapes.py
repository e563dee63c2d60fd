"""Checkpoints of well-known models: their configurations and the headers of their weights.

The weights themselves are holes in the files, so a model of 70B parameters takes some kilobytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Shape = tuple[str, tuple[int, ...]]
"""A tensor's name and its sizes."""

Stored = tuple[str, str, tuple[int, ...]]
"""A tensor's name, type and sizes."""

ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "U8": 1, "F8_E4M3": 1}

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt_oss": "GptOssForCausalLM",
    "opt": "OPTForCausalLM",
    "falcon": "FalconForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
}
"""What PyTorch would load each kind as."""

QUANTIZATIONS: Mapping[str, Mapping[str, Any]] = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
    "fp8": {"quant_method": "fp8"},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "mxfp4": {"quant_method": "mxfp4"},
}
"""What a configuration says of packed weights."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a transformer.

    Attributes:
        tied: Whether the output is the embedding.
        bias: Whether queries, keys and values have one.
        head_norms: Whether queries and keys are normalized.
        norms: Norms of a layer.
        experts: Of a mixture; with `used` at each token.
    """

    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int
    context_length: int = 4096
    head: int = 0
    tied: bool = False
    bias: bool = False
    head_norms: bool = False
    norms: int = 2
    experts: int = 0
    used: int = 0

    @property
    def head_width(self) -> int:
        """The width of a head."""
        return self.head or self.width // self.heads


@dataclass(frozen=True, slots=True)
class Known:
    """A well-known model.

    Attributes:
        kind: Its `model_type`.
        tensors: Makes its tensors.
        card: The head of its README.
        template: Whether it comes with a chat template.
        config: What else its configuration says.
    """

    kind: str
    sizes: Sizes
    tensors: Callable[[Sizes], Iterator[Shape]]
    card: Mapping[str, str] = field(default_factory=dict)
    template: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "BF16"
    packed: str = ""
    """How matrices are quantized, one of `QUANTIZATIONS`; empty where they are not."""


def write(folder: Path, model: Known) -> Path:
    """Write a model's headers; return its folder."""
    folder.mkdir()
    sizes = model.sizes
    config = {
        "model_type": model.kind,
        "architectures": [CLASSES[model.kind]],
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "max_position_embeddings": sizes.context_length,
        "vocab_size": sizes.vocabulary,
    }
    if sizes.experts:
        config |= {"num_local_experts": sizes.experts, "num_experts_per_tok": sizes.used}
    if model.packed:
        config["quantization_config"] = QUANTIZATIONS[model.packed]
    (folder / "config.json").write_text(json.dumps(config | dict(model.config)))
    if model.card:
        head = "\n".join(f"{name}: {said}" for name, said in model.card.items())
        (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n")
    if model.template:
        template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
        (folder / "chat_template.jinja").write_text(template)
    stored = (each for shape in model.tensors(sizes) for each in _stored(shape, model))
    _write_header(folder / "model.safetensors", stored)
    return folder


def _stored(shape: Shape, model: Known) -> Iterator[Stored]:
    """Yield a tensor as it is stored: packed ones with what says how to read them."""
    name, lengths = shape
    base = name.removesuffix(".weight")
    is_packed = base.endswith("_proj")
    if model.packed == "mxfp4":
        is_packed = is_packed and "experts" in name
    if not (model.packed and is_packed and len(lengths) > 1):
        yield name, model.dtype, lengths
        return
    rows, columns = lengths[-2:]
    match model.packed:
        case "awq":
            yield f"{base}.qweight", "I32", (columns, rows // 8)
            yield f"{base}.qzeros", "I32", (columns // 128, rows // 8)
            yield f"{base}.scales", "F16", (columns // 128, rows)
        case "fp8":
            yield name, "F8_E4M3", lengths
            yield f"{base}.weight_scale", "BF16", (rows, 1)
        case "bitsandbytes":
            blocks = rows * columns // 64
            yield name, "U8", (rows * columns // 2, 1)
            yield f"{name}.absmax", "U8", (blocks,)
            yield f"{name}.nested_absmax", "F32", (blocks // 256,)
            yield f"{name}.quant_map", "F32", (16,)
            yield f"{name}.nested_quant_map", "F32", (256,)
            yield f"{name}.quant_state.bitsandbytes__nf4", "U8", (100,)
        case "mxfp4":
            yield f"{base}_blocks", "U8", (*lengths[:-1], columns // 32, 16)
            yield f"{base}_scales", "U8", (*lengths[:-1], columns // 32)


def _write_header(path: Path, tensors: Iterator[Stored]) -> None:
    header, offset = {}, 0
    for name, dtype, shape in tensors:
        size = ITEM_BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + offset)


def llama(sizes: Sizes) -> Iterator[Shape]:
    """Yield the tensors of Llama and all that are made like it."""
    width, head = sizes.width, sizes.head_width
    yield "model.embed_tokens.weight", (sizes.vocabulary, width)
    yield "model.norm.weight", (width,)
    if not sizes.tied:
        yield "lm_head.weight", (sizes.vocabulary, width)
    for layer in range(sizes.layers):
        prefix = f"model.layers.{layer}"
        outs = {"q": sizes.heads * head, "k": sizes.kv_heads * head, "v": sizes.kv_heads * head}
        for name, out in outs.items():
            yield f"{prefix}.self_attn.{name}_proj.weight", (out, width)
            if sizes.bias:
                yield f"{prefix}.self_attn.{name}_proj.bias", (out,)
        yield f"{prefix}.self_attn.o_proj.weight", (width, sizes.heads * head)
        if sizes.head_norms:
            yield f"{prefix}.self_attn.q_norm.weight", (head,)
            yield f"{prefix}.self_attn.k_norm.weight", (head,)
        for number in range(sizes.norms):
            yield f"{prefix}.norm_{number}.weight", (width,)
        yield from _feed_forward(prefix, sizes)


def _feed_forward(prefix: str, sizes: Sizes) -> Iterator[Shape]:
    if not sizes.experts:
        yield from _gated(f"{prefix}.mlp", sizes)
        return
    yield f"{prefix}.mlp.gate.weight", (sizes.experts, sizes.width)
    for expert in range(sizes.experts):
        yield from _gated(f"{prefix}.mlp.experts.{expert}", sizes)


def _gated(prefix: str, sizes: Sizes) -> Iterator[Shape]:
    yield f"{prefix}.gate_proj.weight", (sizes.hidden, sizes.width)
    yield f"{prefix}.up_proj.weight", (sizes.hidden, sizes.width)
    yield f"{prefix}.down_proj.weight", (sizes.width, sizes.hidden)


def gpt_oss(sizes: Sizes) -> Iterator[Shape]:
    """Yield the tensors of gpt-oss: the matrices of all experts of a layer are one."""
    width, head = sizes.width, sizes.head_width
    yield "model.embed_tokens.weight", (sizes.vocabulary, width)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (sizes.vocabulary, width)
    for layer in range(sizes.layers):
        prefix = f"model.layers.{layer}"
        for name, heads in (("q", sizes.heads), ("k", sizes.kv_heads), ("v", sizes.kv_heads)):
            yield from _linear(f"{prefix}.self_attn.{name}_proj", heads * head, width)
        yield from _linear(f"{prefix}.self_attn.o_proj", width, sizes.heads * head)
        yield f"{prefix}.self_attn.sinks", (sizes.heads,)
        yield f"{prefix}.input_layernorm.weight", (width,)
        yield f"{prefix}.post_attention_layernorm.weight", (width,)
        yield from _linear(f"{prefix}.mlp.router", sizes.experts, width)
        experts = f"{prefix}.mlp.experts"
        for name, rows, columns in (
            ("gate_up_proj", 2 * sizes.hidden, width),
            ("down_proj", width, sizes.hidden),
        ):
            yield f"{experts}.{name}", (sizes.experts, rows, columns)
            yield f"{experts}.{name}_bias", (sizes.experts, rows)


def gpt2(sizes: Sizes) -> Iterator[Shape]:
    """Yield the tensors of GPT-2: learned positions, and a bias everywhere."""
    yield "wte.weight", (sizes.vocabulary, sizes.width)
    yield "wpe.weight", (sizes.context_length, sizes.width)
    yield from _norm("ln_f", sizes.width)
    for layer in range(sizes.layers):
        yield from _norm(f"h.{layer}.ln_1", sizes.width)
        yield from _norm(f"h.{layer}.ln_2", sizes.width)
        yield from _linear(f"h.{layer}.attn.c_attn", 3 * sizes.width, sizes.width)
        yield from _linear(f"h.{layer}.attn.c_proj", sizes.width, sizes.width)
        yield from _linear(f"h.{layer}.mlp.c_fc", sizes.hidden, sizes.width)
        yield from _linear(f"h.{layer}.mlp.c_proj", sizes.width, sizes.hidden)


def opt(sizes: Sizes) -> Iterator[Shape]:
    """Yield the tensors of OPT, which has two positions more than its context."""
    decoder = "model.decoder"
    yield f"{decoder}.embed_tokens.weight", (sizes.vocabulary, sizes.width)
    yield f"{decoder}.embed_positions.weight", (sizes.context_length + 2, sizes.width)
    yield from _norm(f"{decoder}.final_layer_norm", sizes.width)
    for layer in range(sizes.layers):
        prefix = f"{decoder}.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{prefix}.self_attn.{name}", sizes.width, sizes.width)
        yield from _norm(f"{prefix}.self_attn_layer_norm", sizes.width)
        yield from _norm(f"{prefix}.final_layer_norm", sizes.width)
        yield from _linear(f"{prefix}.fc1", sizes.hidden, sizes.width)
        yield from _linear(f"{prefix}.fc2", sizes.width, sizes.hidden)


def falcon(sizes: Sizes) -> Iterator[Shape]:
    """Yield the tensors of Falcon of 7B: one head of keys, one norm a layer, tied."""
    yield "transformer.word_embeddings.weight", (sizes.vocabulary, sizes.width)
    yield from _norm("transformer.ln_f", sizes.width)
    joined = (sizes.heads + 2 * sizes.kv_heads) * sizes.head_width
    for layer in range(sizes.layers):
        prefix = f"transformer.h.{layer}"
        yield from _norm(f"{prefix}.input_layernorm", sizes.width)
        yield f"{prefix}.self_attention.query_key_value.weight", (joined, sizes.width)
        yield f"{prefix}.self_attention.dense.weight", (sizes.width, sizes.width)
        yield f"{prefix}.mlp.dense_h_to_4h.weight", (sizes.hidden, sizes.width)
        yield f"{prefix}.mlp.dense_4h_to_h.weight", (sizes.width, sizes.hidden)


def starcoder2(sizes: Sizes) -> Iterator[Shape]:
    """Yield the tensors of StarCoder 2: a bias everywhere, tied."""
    yield "model.embed_tokens.weight", (sizes.vocabulary, sizes.width)
    yield from _norm("model.norm", sizes.width)
    kv_width = sizes.kv_heads * sizes.head_width
    for layer in range(sizes.layers):
        prefix = f"model.layers.{layer}"
        yield from _norm(f"{prefix}.input_layernorm", sizes.width)
        yield from _norm(f"{prefix}.post_attention_layernorm", sizes.width)
        for name, out in (("q", sizes.width), ("k", kv_width), ("v", kv_width), ("o", sizes.width)):
            yield from _linear(f"{prefix}.self_attn.{name}_proj", out, sizes.width)
        yield from _linear(f"{prefix}.mlp.c_fc", sizes.hidden, sizes.width)
        yield from _linear(f"{prefix}.mlp.c_proj", sizes.width, sizes.hidden)


def _linear(name: str, rows: int, columns: int) -> Iterator[Shape]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _norm(name: str, width: int) -> Iterator[Shape]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
