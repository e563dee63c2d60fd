"""What a checkpoint would take, reckoned from the headers of its weights and its configuration.

Without vLLM, which takes half a minute to say the same, and which a node need not have to say what
a model would take there. What it takes beside weights and cache was measured once, and is corrected
by what each model really takes (`measurements.py`).
"""

from __future__ import annotations

from dataclasses import replace

from potluck_worker.engines.base import KvType
from potluck_worker.engines.sizing import HOST, Estimate, Options, Room, Share
from potluck_worker.engines.vllm import memory
from potluck_worker.engines.vllm.adapters import only_adapter
from potluck_worker.engines.vllm.cards import choose_cards
from potluck_worker.engines.vllm.checkpoint import Checkpoint
from potluck_worker.engines.vllm.lacking import require_none_of

CARDS = ("CUDA", "ROCm")
"""How the cards are called that vLLM computes on; the same card may be there by another name."""


class VllmSizer:
    """A checkpoint, read to be asked for sizes.

    Args:
        checkpoint: What its files say.
        room: What vLLM may take here; with cards in it, it computes on cards.
    """

    def __init__(self, checkpoint: Checkpoint, room: Room) -> None:
        self._checkpoint = checkpoint
        free = room.free_bytes.items()
        self._free = {device: size for device, size in free if device.startswith(CARDS)}
        self.training_context_length = checkpoint.training_context_length

    def ask(self, options: Options) -> Estimate:
        """Return what the checkpoint takes, held like this. Raises `PotluckError`."""
        refuse_what_is_lacking(options.kv_type, options.gpu_layers, options.flash_attention)
        whole = self._on_one_device(options)
        if not self._free:
            return Estimate(options, (replace(whole, device_id=HOST),))

        def on_each_of(cards: int) -> Share:
            return replace(
                whole,
                weights_bytes=whole.weights_bytes // cards,
                kv_cache_bytes=memory.kv_cache_part(self._checkpoint, whole.kv_cache_bytes, cards),
            )

        cards = choose_cards(
            self._free,
            lambda count: on_each_of(count).total_bytes,
            memory.heads(self._checkpoint),
        )
        processes = 1 if len(cards) == 1 else 1 + len(cards)
        host = Share(HOST, process_bytes=processes * memory.CARD_PROCESS_BYTES)
        shares = (replace(on_each_of(len(cards)), device_id=card) for card in cards)
        return Estimate(options, (host, *shares))

    def _on_one_device(self, options: Options) -> Share:
        """Return what it takes of one device that holds it alone."""
        checkpoint, context_length, slots = self._checkpoint, options.context_length, options.slots
        assert context_length and slots
        adapter = only_adapter(options.lora_adapters)
        adapter_bytes = memory.adapter_bytes(checkpoint, adapter.rank_held) if adapter else 0
        threads = None if self._free else memory.cpu_threads()
        step_tokens = memory.step_tokens(checkpoint, context_length, slots, threads)
        return Share(
            "",
            weights_bytes=memory.weights_bytes(checkpoint, threads) + adapter_bytes,
            kv_cache_bytes=memory.kv_cache_bytes(checkpoint, context_length * slots, slots),
            compute_bytes=memory.compute_bytes(checkpoint, slots, step_tokens),
            process_bytes=memory.CARD_BYTES if self._free else memory.process_bytes(checkpoint),
        )


def refuse_what_is_lacking(
    kv_type: KvType | None, gpu_layers: int | None, flash_attention: bool | None
) -> None:
    """Raise `BadRequest` for a way to hold a model that vLLM has not."""
    require_none_of(
        {
            f"KV cache of {kv_type}": kv_type not in (None, "f16"),
            "layers on the processor beside a card (gpu_layers)": gpu_layers is not None,
            "choice of flash attention": flash_attention is not None,
        }
    )
