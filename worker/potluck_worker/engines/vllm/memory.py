"""What a checkpoint takes in memory, from what its files say, before vLLM is asked."""

from __future__ import annotations

from potluck_worker.engines.vllm.checkpoint import Checkpoint

BLOCK_TOKENS = 32
"""Tokens that share a page of the KV cache: what prompts have in common is found by whole pages.
vLLM's kernels for processors want a multiple of 32; its own choice there, 128, finds less."""

BATCH_TOKENS = 2048
"""The most tokens in a step on a card."""

CPU_BATCH_TOKENS = 32
"""The least on a processor, and more for a small model and for each thread: so many tokens that a
step takes about a third of a second, since in a step nobody is heard. Measured with 135M
parameters and one thread: 460 tokens/s in steps of 128 as in steps of 512."""

CPU_STEP_WEIGHTS = 2**34
"""Weights that a thread multiplies in that time."""

PROCESS_BYTES = 700 * 2**20
"""What a child takes in main memory beside the model. Measured with vLLM 0.32 on a processor."""

ITEM_BYTES = 2
"""vLLM computes in 16 bits, and converts weights of 32 when it loads them."""


def weights_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of the weights once they are loaded."""
    return sum(
        tensor.elements * ITEM_BYTES if tensor.dtype in ("F32", "F64") else tensor.size_bytes
        for tensor in checkpoint.tensors
    )


def kv_bytes_per_token(checkpoint: Checkpoint) -> int:
    """Return the bytes that a token takes in the KV cache, of all layers together."""
    layers = checkpoint.number("num_hidden_layers", "n_layer", "num_layers")
    if "kv_lora_rank" in checkpoint.config:  # latent attention keeps one vector for all heads
        width = checkpoint.number("kv_lora_rank") + checkpoint.number("qk_rope_head_dim")
        return layers * width * ITEM_BYTES
    return layers * 2 * kv_heads(checkpoint) * _head_width(checkpoint) * ITEM_BYTES


def kv_heads(checkpoint: Checkpoint) -> int:
    """Return the attention heads that have keys and values of their own."""
    if checkpoint.config.get("multi_query") is True:
        return 1
    return checkpoint.number("num_key_value_heads", "num_kv_heads", default=heads(checkpoint))


def heads(checkpoint: Checkpoint) -> int:
    """Return the attention heads."""
    return checkpoint.number("num_attention_heads", "n_head")


def _head_width(checkpoint: Checkpoint) -> int:
    width = checkpoint.number("hidden_size", "n_embd", "d_model")
    return checkpoint.number("head_dim", default=width // heads(checkpoint))


def kv_cache_bytes(checkpoint: Checkpoint, cells: int, slots: int) -> int:
    """Return the size of a KV cache.

    Args:
        checkpoint: The model.
        cells: Tokens in it, all sequences together.
        slots: Sequences; each may leave a part of its last page empty.
    """
    pages = -(-cells // BLOCK_TOKENS) + slots  # one of them vLLM keeps for itself
    return pages * BLOCK_TOKENS * kv_bytes_per_token(checkpoint)


def compute_bytes(checkpoint: Checkpoint, slots: int) -> int:
    """Return an allowance for what a step computes: activations of a full batch, and logits."""
    width = checkpoint.number("hidden_size", "n_embd", "d_model")
    hidden = checkpoint.number("intermediate_size", "ffn_dim", "n_inner", default=4 * width)
    activations = BATCH_TOKENS * (4 * width + 3 * hidden) * ITEM_BYTES
    logits = 4 * slots * checkpoint.number("vocab_size") * 4  # in 32 bits, several copies
    return activations + logits


def cpu_batch_tokens(checkpoint: Checkpoint, slots: int, threads: int) -> int:
    """Return the most tokens in a step on a processor."""
    tokens = CPU_STEP_WEIGHTS * threads // max(1, checkpoint.parameter_count)
    return max(slots, CPU_BATCH_TOKENS, min(BATCH_TOKENS, tokens))


def longest_step_seconds(checkpoint: Checkpoint, tokens: int, threads: int) -> float:
    """Return what a step of so many tokens may take on a processor: three times what it should."""
    return checkpoint.parameter_count * tokens / (CPU_STEP_WEIGHTS * threads)
