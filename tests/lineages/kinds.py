"""What files of each lineage hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lineages.make import Layout, Lineage, Shape
from lineages.vocabularies import Vocabulary, byte_level, sentence_piece, unigram, word_piece

TINY = Shape()
ONE_TO_ONE = Shape(kv_heads=TINY.heads)
"""Each head of queries has keys of its own."""

WINDOW_TOKENS = 64
"""How far back the layers with a sliding window look."""

STATES = 16
"""What a recurrent layer remembers for each channel."""

MEAN, CLS, LAST = 1, 2, 3
"""Values of `llama_pooling_type`."""


def llama(shape: Shape = TINY, vocabulary: Vocabulary | None = None) -> Lineage:
    """Return the lineage of llama; others are told by how they differ."""
    block = _attention(shape) | _gated(shape) | _norms(shape, "attn_norm", "ffn_norm")
    lineage = _lineage("llama", shape, vocabulary or sentence_piece(), block)
    return saying(lineage, {"rope.dimension_count": shape.head})


def qwen3() -> Lineage:
    """Return the lineage of Qwen 3, which normalizes queries and keys."""
    block = _attention(TINY) | _gated(TINY) | _norms(TINY, "attn_norm", "ffn_norm")
    return _lineage("qwen3", TINY, byte_level(pre="qwen2"), block | _head_norms(TINY))


def qwen3moe() -> Lineage:
    """Return a mixture of eight experts, of which two work at each token."""
    width, hidden, experts = TINY.width, TINY.hidden // 2, 8
    block = _attention(TINY) | _norms(TINY, "attn_norm", "ffn_norm") | _head_norms(TINY)
    block |= {
        "ffn_gate_inp.weight": (experts, width),
        "ffn_gate_exps.weight": (experts, hidden, width),
        "ffn_up_exps.weight": (experts, hidden, width),
        "ffn_down_exps.weight": (experts, width, hidden),
    }
    said = {"expert_count": experts, "expert_used_count": 2, "expert_feed_forward_length": hidden}
    return saying(_lineage("qwen3moe", TINY, byte_level(pre="qwen2"), block), said)


def gemma3(architecture: str = "gemma3") -> Lineage:
    """Return the lineage of Gemma 3: each other layer looks back `WINDOW_TOKENS` and no further."""
    norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    block = _attention(TINY) | _gated(TINY) | _norms(TINY, *norms) | _head_norms(TINY)
    said = {
        "attention.key_length": TINY.head,
        "attention.value_length": TINY.head,
        "attention.sliding_window": WINDOW_TOKENS,
        "attention.sliding_window_pattern": [layer % 2 == 0 for layer in range(TINY.layers)],
    }
    return saying(_lineage(architecture, TINY, sentence_piece(), block), said)


def falcon() -> Lineage:
    """Return the lineage of Falcon: attention and feed-forward side by side."""
    block = _joined_attention(TINY) | _forward(TINY)
    block |= _norms(TINY, "attn_norm", "attn_norm_2", bias=True)
    return _with_biases(_lineage("falcon", TINY, byte_level(pre="falcon"), block))


def gpt2(architecture: str = "gpt2", shape: Shape = ONE_TO_ONE) -> Lineage:
    """Return the lineage of GPT-2, which learned a vector for each position."""
    block = _biased(_joined_attention(shape) | _forward(shape))
    block |= _norms(shape, "attn_norm", "ffn_norm", bias=True)
    lineage = _with_biases(_lineage(architecture, shape, byte_level(), block))
    lineage.layout["position_embd.weight"] = (shape.context_length, shape.width)
    return lineage


def starcoder() -> Lineage:
    """Return the lineage of StarCoder: GPT-2's, with one head of keys for all."""
    return gpt2("starcoder", Shape(kv_heads=1))


def mamba() -> Lineage:
    """Return a recurrent lineage: it has a state instead of a cache."""
    inner, rank = 2 * TINY.width, 4
    block = {
        "attn_norm.weight": (TINY.width,),
        "ssm_in.weight": (2 * inner, TINY.width),
        "ssm_conv1d.weight": (inner, 4),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * STATES, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, STATES),
        "ssm_d": (inner,),
        "ssm_out.weight": (TINY.width, inner),
    }
    said = {"feed_forward_length": 0, "attention.head_count": 0, "attention.head_count_kv": 0}
    lineage = _lineage("mamba", TINY, byte_level(), block)
    return saying(lineage, said | _states(inner, rank))


def falcon_h1() -> Lineage:
    """Return a hybrid lineage: every layer has both attention and a state."""
    inner, heads = 2 * TINY.width, 4
    channels = inner + 2 * STATES
    block = _attention(TINY) | _gated(TINY) | _norms(TINY, "attn_norm")
    block |= {
        "ssm_in.weight": (inner + channels + heads, TINY.width),
        "ssm_conv1d.weight": (channels, 4),
        "ssm_conv1d.bias": (channels,),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads, 1),
        "ssm_d": (heads, 1),
        "ssm_norm.weight": (1, inner),
        "ssm_out.weight": (TINY.width, inner),
        "ffn_norm": (TINY.width,),
    }
    lineage = _lineage("falcon-h1", TINY, byte_level(pre="falcon-h1"), block)
    return saying(lineage, _states(inner, heads) | {"ssm.group_count": 1})


def lfm2() -> Lineage:
    """Return a hybrid lineage: a layer of short convolutions, then one of attention."""
    both = _gated(TINY) | _norms(TINY, "attn_norm", "ffn_norm")
    convolution: Layout = {
        "shortconv.conv.weight": (TINY.width, 3),
        "shortconv.in_proj.weight": (3 * TINY.width, TINY.width),
        "shortconv.out_proj.weight": (TINY.width, TINY.width),
    }
    attention = _attention(TINY) | _head_norms(TINY)
    lineage = _lineage("lfm2", TINY, byte_level(pre="lfm2"), both)
    lineage.layout["token_embd_norm.weight"] = lineage.layout.pop("output_norm.weight")
    for layer in range(TINY.layers):
        lineage.layout.update(_block(layer, attention if layer % 2 else convolution))
    kv_heads = [TINY.kv_heads * (layer % 2) for layer in range(TINY.layers)]
    return saying(lineage, {"attention.head_count_kv": kv_heads, "shortconv.l_cache": 3})


def bert(vocabulary: Vocabulary | None = None) -> Lineage:
    """Return an encoder, which embeds texts and says nothing."""
    shape, vocabulary = replace(ONE_TO_ONE, context_length=128), vocabulary or word_piece()
    block = _biased(_attention(shape) | _forward(shape))
    block |= _norms(shape, "attn_output_norm", "layer_output_norm", bias=True)
    lineage = _with_biases(_lineage("bert", shape, vocabulary, block))
    del lineage.layout["output_norm.weight"], lineage.layout["output_norm.bias"]
    kinds = vocabulary.metadata["tokenizer.ggml.token_type_count"]
    lineage.layout.update(
        {
            "position_embd.weight": (shape.context_length, shape.width),
            "token_types.weight": (kinds, shape.width),
            **_norms(shape, "token_embd_norm", bias=True),
        }
    )
    return saying(lineage, {"attention.causal": False, "pooling_type": MEAN})


def gemma_embedding() -> Lineage:
    """Return Gemma 3 as an encoder, with two matrices that the pooled vector goes through."""
    lineage = gemma3("gemma-embedding")
    lineage.layout["dense_2.weight"] = (2 * TINY.width, TINY.width)
    lineage.layout["dense_3.weight"] = (TINY.width, 2 * TINY.width)
    said = {
        "dense_2_feat_in": TINY.width,
        "dense_2_feat_out": 2 * TINY.width,
        "dense_3_feat_in": 2 * TINY.width,
        "dense_3_feat_out": TINY.width,
        "pooling_type": MEAN,
    }
    return saying(lineage, said)


def t5_encoder() -> Lineage:
    """Return the half of T5 that reads."""
    width = ONE_TO_ONE.width
    block = _attention(ONE_TO_ONE) | _forward(ONE_TO_ONE)
    block |= _norms(ONE_TO_ONE, "attn_norm", "ffn_norm")
    block["attn_o.weight"] = block.pop("attn_output.weight")
    block["attn_rel_b.weight"] = (32, ONE_TO_ONE.heads)
    lineage = _lineage("t5encoder", ONE_TO_ONE, unigram(), block)
    embedding = lineage.layout.pop("token_embd.weight")
    layout = {"token_embd.weight": embedding}
    layout |= {f"enc.{name}": size for name, size in lineage.layout.items()}
    said = {"attention.relative_buckets_count": 32, "attention.key_length": width // 4}
    return saying(replace(lineage, layout=layout), said | {"pooling_type": MEAN})


def saying(lineage: Lineage, said: dict[str, Any]) -> Lineage:
    """Return a lineage whose files say something else."""
    return replace(lineage, metadata={**lineage.metadata, **said})


# --- parts -------------------------------------------------------------------------------------


def _lineage(architecture: str, shape: Shape, vocabulary: Vocabulary, block: Layout) -> Lineage:
    said = {
        "context_length": shape.context_length,
        "embedding_length": shape.width,
        "block_count": shape.layers,
        "feed_forward_length": shape.hidden,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    # The head is the embedding once more.
    layout: Layout = {
        "token_embd.weight": (vocabulary.size, shape.width),
        "output_norm.weight": (shape.width,),
    }
    for layer in range(shape.layers):
        layout |= _block(layer, block)
    return Lineage(architecture, said, layout, vocabulary)


def _block(layer: int, block: Layout) -> Layout:
    return {f"blk.{layer}.{name}": size for name, size in block.items()}


def _states(inner: int, rank: int) -> dict[str, Any]:
    return {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": STATES,
        "ssm.time_step_rank": rank,
    }


def _attention(shape: Shape) -> Layout:
    return {
        "attn_q.weight": (shape.width, shape.width),
        "attn_k.weight": (shape.kv_width, shape.width),
        "attn_v.weight": (shape.kv_width, shape.width),
        "attn_output.weight": (shape.width, shape.width),
    }


def _joined_attention(shape: Shape) -> Layout:
    return {
        "attn_qkv.weight": (shape.width + 2 * shape.kv_width, shape.width),
        "attn_output.weight": (shape.width, shape.width),
    }


def _forward(shape: Shape) -> Layout:
    return {
        "ffn_up.weight": (shape.hidden, shape.width),
        "ffn_down.weight": (shape.width, shape.hidden),
    }


def _gated(shape: Shape) -> Layout:
    return {"ffn_gate.weight": (shape.hidden, shape.width), **_forward(shape)}


def _norms(shape: Shape, *names: str, bias: bool = False) -> Layout:
    parts = ("weight", "bias") if bias else ("weight",)
    return {f"{name}.{part}": (shape.width,) for name in names for part in parts}


def _head_norms(shape: Shape) -> Layout:
    return {"attn_q_norm.weight": (shape.head,), "attn_k_norm.weight": (shape.head,)}


def _biased(block: Layout) -> Layout:
    """Return matrices with a bias each."""
    return block | {name.replace("weight", "bias"): size[:1] for name, size in block.items()}


def _with_biases(lineage: Lineage) -> Lineage:
    """Return a lineage whose norms have a bias."""
    lineage.layout["output_norm.bias"] = lineage.layout["output_norm.weight"]
    return saying(lineage, {"attention.layer_norm_epsilon": 1e-5})


LINEAGES = {
    "llama": llama(),
    "falcon": falcon(),
    "starcoder": starcoder(),
    "gpt2": gpt2(),
    "qwen3": qwen3(),
    "gemma3": gemma3(),
    "qwen3moe": qwen3moe(),
    "mamba": mamba(),
    "falcon-h1": falcon_h1(),
    "lfm2": lfm2(),
}
"""Those that chat; each can embed as well."""

ENCODERS = {
    "bert": bert(),
    "bert-first": saying(bert(unigram()), {"pooling_type": CLS}),
    "gemma-embedding": gemma_embedding(),
    "t5encoder": t5_encoder(),
    "llama-both-ways": saying(llama(), {"attention.causal": False}),
}
"""Those that embed and do nothing else."""

QWEN3_EMBEDDING = saying(qwen3(), {"pooling_type": LAST})
"""A causal model that was made for embedding, by its last token."""
