"""Tiny checkpoints in safetensors with random weights, written without PyTorch.

What the models say is noise in made-up words: the rows of bytes and of control tokens are zero, so
they are never the likeliest, and an answer is as long as was asked for. Their tokens are there all
the same, for prompts and for grammars.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTROL = ("<|end|>", "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
END, BEGIN = 0, 1
FIRST_WORD = len(CONTROL) + 256

SPREAD = 0.08
"""Standard deviation of weights; with the usual 0.02 all tokens are about as likely."""

TEMPLATE = (
    "{{ bos_token }}"
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}"
    "<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}no thoughts{% endif %}"
    "{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model."""

    layers: int = 2
    width: int = 128
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 512
    context_length: int = 2048


def make_llama(folder: Path, shape: Shape = Shape(), *, seed: int = 1, **config: Any) -> Path:
    """Write a Llama checkpoint; return its folder."""
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "vocab_size": shape.vocabulary,
    }
    return _write(folder, settings | config, _llama_tensors(shape, seed))


def make_opt(folder: Path, shape: Shape = Shape(), *, seed: int = 1) -> Path:
    """Write an OPT checkpoint; return its folder."""
    settings = {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "hidden_size": shape.width,
        "word_embed_proj_dim": shape.width,
        "ffn_dim": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.context_length,
        "activation_function": "relu",
        "do_layer_norm_before": True,
        "vocab_size": shape.vocabulary,
    }
    return _write(folder, settings, _opt_tensors(shape, seed))


def make_embedder(folder: Path, shape: Shape = Shape(), *, seed: int = 1) -> Path:
    """Write a checkpoint that embeds texts, of a Llama without its head; return its folder."""
    make_llama(folder, shape, architectures=["LlamaModel"])
    body = {
        name.removeprefix("model."): values
        for name, values in _llama_tensors(shape, seed)
        if name != "lm_head.weight"
    }
    write_safetensors(folder / "model.safetensors", body)
    return folder


def make_adapter(folder: Path, base: Path, *, rank: int = 4, seed: int = 2) -> Path:
    """Write a LoRA adapter for a Llama checkpoint that changes what it says; return its folder."""
    config = json.loads((base / "config.json").read_text())
    width, random = config["hidden_size"], np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora"
        tensors[f"{name}_A.weight"] = random.standard_normal((rank, width), np.float32)
        tensors[f"{name}_B.weight"] = random.standard_normal((width, rank), np.float32)
    folder.mkdir(parents=True)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write tensors as bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blocks, offset = [], 0
    for name, values in tensors.items():
        # The upper half of a float32 is the bfloat16.
        block = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        end = offset + block.nbytes
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": [offset, end]}
        blocks.append(block.tobytes())
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blocks))


def _write(folder: Path, settings: dict[str, Any], tensors: Iterator[Any]) -> Path:
    folder.mkdir(parents=True)
    common = {"bos_token_id": BEGIN, "eos_token_id": END, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(settings | common))
    write_safetensors(folder / "model.safetensors", dict(tensors))
    _write_tokenizer(folder, settings["vocab_size"])
    return folder


def _llama_tensors(shape: Shape, seed: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    random = np.random.default_rng(seed)
    kv_width = shape.width // shape.heads * shape.kv_heads

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return random.standard_normal((rows, columns), np.float32) * SPREAD

    head = matrix(shape.vocabulary, shape.width)
    head[:FIRST_WORD] = 0
    yield "model.embed_tokens.weight", matrix(shape.vocabulary, shape.width)
    yield "lm_head.weight", head
    yield "model.norm.weight", np.ones(shape.width, np.float32)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", np.ones(shape.width, np.float32)
        yield f"{prefix}.post_attention_layernorm.weight", np.ones(shape.width, np.float32)
        yield f"{prefix}.self_attn.q_proj.weight", matrix(shape.width, shape.width)
        yield f"{prefix}.self_attn.k_proj.weight", matrix(kv_width, shape.width)
        yield f"{prefix}.self_attn.v_proj.weight", matrix(kv_width, shape.width)
        yield f"{prefix}.self_attn.o_proj.weight", matrix(shape.width, shape.width)
        yield f"{prefix}.mlp.gate_proj.weight", matrix(shape.hidden, shape.width)
        yield f"{prefix}.mlp.up_proj.weight", matrix(shape.hidden, shape.width)
        yield f"{prefix}.mlp.down_proj.weight", matrix(shape.width, shape.hidden)


def _opt_tensors(shape: Shape, seed: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    random = np.random.default_rng(seed)
    decoder = "model.decoder"

    def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
        values = random.standard_normal((rows, columns), np.float32) * SPREAD
        yield f"{name}.weight", values
        yield f"{name}.bias", np.zeros(rows, np.float32)

    def norm(name: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", np.ones(shape.width, np.float32)
        yield f"{name}.bias", np.zeros(shape.width, np.float32)

    embeddings = random.standard_normal((shape.vocabulary, shape.width), np.float32) * SPREAD
    # The head is tied to them, so a quiet row is a token that is never the likeliest.
    embeddings[:FIRST_WORD] *= 0.1
    positions = random.standard_normal((shape.context_length + 2, shape.width), np.float32) * SPREAD
    yield f"{decoder}.embed_tokens.weight", embeddings
    yield f"{decoder}.embed_positions.weight", positions
    yield from norm(f"{decoder}.final_layer_norm")
    for layer in range(shape.layers):
        prefix = f"{decoder}.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{prefix}.self_attn.{name}", shape.width, shape.width)
        yield from norm(f"{prefix}.self_attn_layer_norm")
        yield from linear(f"{prefix}.fc1", shape.hidden, shape.width)
        yield from linear(f"{prefix}.fc2", shape.width, shape.hidden)
        yield from norm(f"{prefix}.final_layer_norm")


def _write_tokenizer(folder: Path, size: int) -> None:
    """Write a byte-level vocabulary: control tokens, bytes, and words that no text has."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    texts = [*CONTROL, *(chr(byte if byte in letters else next(others)) for byte in range(256))]
    texts += [f"Ġw{number}" for number in range(size - len(texts))]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": number,
                "content": text,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for number, text in enumerate(CONTROL)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {text: number for number, text in enumerate(texts)},
            "merges": [],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": CONTROL[BEGIN],
        "eos_token": CONTROL[END],
        "model_max_length": 10**9,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
