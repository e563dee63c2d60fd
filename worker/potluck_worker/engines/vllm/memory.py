"""What a checkpoint takes in memory, from what its files say, before vLLM is asked."""

from __future__ import annotations

from potluck_worker.engines.vllm.checkpoint import Checkpoint
from potluck_worker.hardware import physical_cores

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

PROCESS_BYTES = 415 * 2**20
"""What a child takes of main memory beside the model. Measured with vLLM 0.32 on a processor, with
five shapes from 1 to 310 MB of weights: with the next, within 1 % or 8 MB of the peak."""

PROCESS_BYTES_PER_LAYER = 4 * 2**20
"""What its kernels for processors keep for each layer."""

CARD_PROCESS_BYTES = 2048 * 2**20
"""What a process takes of main memory where the model is on cards. An allowance, not measured here:
what a load takes corrects the next estimate."""

CARD_BYTES = 500 * 2**20
"""What driver, libraries and recorded graphs take of each card; likewise."""

ITEM_BYTES = 2
"""vLLM computes in 16 bits, and converts weights of 32 when it loads them."""


def weights_bytes(checkpoint: Checkpoint, threads: int | None) -> int:
    """Return the bytes of the weights once they are loaded.

    On a processor the matrix that chooses tokens is packed into a copy of itself.
    """
    copied = 0 if threads is None or checkpoint.embeds else _head_bytes(checkpoint)
    return copied + sum(
        tensor.elements * ITEM_BYTES if tensor.dtype in ("F32", "F64") else tensor.size_bytes
        for tensor in checkpoint.tensors
    )


def _head_bytes(checkpoint: Checkpoint) -> int:
    return checkpoint.number("vocab_size") * _width(checkpoint) * ITEM_BYTES


def process_bytes(checkpoint: Checkpoint) -> int:
    """Return what a child takes of main memory beside the model that it holds there."""
    return PROCESS_BYTES + PROCESS_BYTES_PER_LAYER * _layers(checkpoint)


def kv_cache_part(checkpoint: Checkpoint, cache_bytes: int, cards: int) -> int:
    """Return what each of some cards has of a KV cache; one has one head at least."""
    return cache_bytes // min(cards, kv_heads(checkpoint))


def adapter_bytes(checkpoint: Checkpoint, rank: int) -> int:
    """Return the bytes of the room for an adapter: for all matrices, whichever it changes."""
    matrices = (tensor.shape for tensor in checkpoint.tensors if len(tensor.shape) == 2)
    return sum((rows + columns) * rank * ITEM_BYTES for rows, columns in matrices)


def kv_bytes_per_token(checkpoint: Checkpoint) -> int:
    """Return the bytes that a token takes in the KV cache, of all layers together."""
    layers = _layers(checkpoint)
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


def _layers(checkpoint: Checkpoint) -> int:
    return checkpoint.number("num_hidden_layers", "n_layer", "num_layers")


def _width(checkpoint: Checkpoint) -> int:
    return checkpoint.number("hidden_size", "n_embd", "d_model")


def _head_width(checkpoint: Checkpoint) -> int:
    return checkpoint.number("head_dim", default=_width(checkpoint) // heads(checkpoint))


def kv_cache_bytes(checkpoint: Checkpoint, cells: int, slots: int) -> int:
    """Return the size of a KV cache.

    Args:
        checkpoint: The model.
        cells: Tokens in it, all sequences together.
        slots: Sequences; each may leave a part of its last page empty.
    """
    pages = -(-cells // BLOCK_TOKENS) + slots  # one of them vLLM keeps for itself
    return pages * BLOCK_TOKENS * kv_bytes_per_token(checkpoint)


def compute_bytes(checkpoint: Checkpoint, slots: int, step_tokens: int) -> int:
    """Return an allowance for what a step computes: activations of a full batch, and logits."""
    width = _width(checkpoint)
    hidden = checkpoint.number("intermediate_size", "ffn_dim", "n_inner", default=4 * width)
    activations = step_tokens * (4 * width + 3 * hidden) * ITEM_BYTES
    logits = 4 * slots * checkpoint.number("vocab_size") * 4  # in 32 bits, several copies
    return activations + logits


def step_tokens(
    checkpoint: Checkpoint, context_length: int, slots: int, threads: int | None
) -> int:
    """Return the most tokens in a step.

    Args:
        checkpoint: The model.
        context_length: Tokens for each sequence.
        slots: Sequences at once.
        threads: Of a processor; `None` is a card.
    """
    tokens = BATCH_TOKENS
    if threads is not None:
        affordable = CPU_STEP_WEIGHTS * threads // max(1, checkpoint.parameter_count)
        tokens = max(slots, CPU_BATCH_TOKENS, min(BATCH_TOKENS, affordable))
    # A text is embedded in one step.
    return max(tokens, context_length) if checkpoint.embeds else tokens


def cpu_threads(asked: int | None = None) -> int:
    """Return the threads that compute on a processor.

    One core is left to Python, which prepares each step, and to the daemon, as vLLM's own server
    does. Measured with 135M parameters on two cores that others use as well: 28 tokens/s with one
    thread, 14 with two.
    """
    return asked or max(1, physical_cores() - 1)


def longest_step_seconds(checkpoint: Checkpoint, tokens: int, threads: int | None) -> float:
    """Return what a step of so many tokens may take: three times what it should; 0 on a card."""
    if threads is None:
        return 0.0
    return checkpoint.parameter_count * tokens / (CPU_STEP_WEIGHTS * threads)
