"""What a GGUF file would take, asked from llama.cpp.

A dry run opens the file without memory for its weights, and contexts without memory for their
caches and buffers; llama.cpp counts what they would have been. To open a file takes 5 to 200 ms, by
its vocabulary; to ask for a context, 2 to 20.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as api

from potluck_worker.engines.llama import devices, library
from potluck_worker.engines.llama.devices import Taken
from potluck_worker.engines.llama.log import Log
from potluck_worker.engines.sizing import HOST, Estimate, Options, Share
from potluck_worker.footprint import private_bytes

MIB = 2**20

ENGINE_BYTES = 5 * MIB
"""What the engine makes beside what a dry run has: templates, samplers, its heap in use. Measured
with `make bench`."""

TOKEN_BYTES = 16
"""What the engine keeps for each token of the vocabulary: candidates and a row of logits."""

DRIVER_BYTES = {"cuda": 400 * MIB, "rocm": 400 * MIB}
"""What a card's driver takes of the card for a process."""


class LlamaSizer:
    """A GGUF file, opened dry.

    Args:
        path: The file, or the first part of a split one.
        log: The library's log.

    Raises:
        ModelError: It cannot be opened.
    """

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._cards = devices.cards()
        self.model = library.Model(path, log, dry=True)
        self.model.require_use()
        # With all that llama.cpp keeps of a file, and none of what this child adds later.
        self._process_bytes = private_bytes(os.getpid())
        self.training_context_length = self.model.training_context_length
        self.layers = self.model.layers if self._cards else 0
        self._expert_layers = self.model.expert_layers if self._cards else 0
        self._opened = (self.layers, 0)

    def ask(self, options: Options) -> Estimate:
        """Return what the file takes, held like this. Raises `ModelFileError`."""
        assert options.context_length and options.slots and options.kv_type
        gpu_layers = self.layers if options.gpu_layers is None else options.gpu_layers
        gpu_layers = min(gpu_layers, self.layers)
        host_experts = min(options.host_experts or 0, self._expert_layers)
        self._open(gpu_layers, host_experts)
        taken = self._taken(options)
        host = taken.pop(HOST, Taken())
        adapters_bytes = sum(Path(path).stat().st_size for path in options.lora_adapters)
        host_share = Share(
            HOST,
            weights_bytes=host.weights_bytes + adapters_bytes,
            kv_cache_bytes=host.kv_cache_bytes,
            compute_bytes=host.compute_bytes,
            process_bytes=self._process_bytes + ENGINE_BYTES + TOKEN_BYTES * self._vocabulary_size,
        )
        shares = (host_share, *(self._card_share(device, at) for device, at in taken.items()))
        held = replace(
            options,
            gpu_layers=gpu_layers,
            host_experts=host_experts,
            flash_attention=self._log.flash_attention,
        )
        return Estimate(held, shares, self.layers, self._expert_layers)

    @property
    def _vocabulary_size(self) -> int:
        return int(api.llama_vocab_n_tokens(self.model.vocabulary))

    def _open(self, gpu_layers: int, host_experts: int) -> None:
        """Open the file with so much of it on cards, unless it is open like that."""
        if self.layers and self._opened != (gpu_layers, host_experts):
            self.model.close()
            self.model = library.Model(
                self._path,
                self._log,
                dry=True,
                gpu_layers=gpu_layers,
                host_experts=host_experts,
            )
            self._opened = gpu_layers, host_experts

    def _taken(self, options: Options) -> dict[str, Taken]:
        """Return what the context of an engine would take of each device, with what comes late."""
        context_length, slots = options.context_length, options.slots
        assert context_length and slots and options.kv_type
        context: Any = library.open_context(
            self.model,
            context_length=context_length,
            cells=context_length * slots,
            slots=slots,
            kv_type=options.kv_type,
            flash_attention=options.flash_attention,
        )
        taken = devices.breakdown(context)
        api.llama_free(context)
        late_bytes = self._log.output_bytes + self.model.late_bytes(context_length, slots)
        if taken[HOST].kv_cache_bytes and not self._log.flash_attention:
            # The processor turns scores into halves, in memory that no buffer counts.
            late_bytes += self.model.scores_bytes(context_length, slots) // 2
        return taken | {HOST: taken[HOST] + Taken(compute_bytes=late_bytes)}

    def _card_share(self, device_id: str, taken: Taken) -> Share:
        card = next(card for card in self._cards if card.id == device_id)
        process_bytes = DRIVER_BYTES.get(card.accelerator, 0) if taken != Taken() else 0
        return Share(
            device_id,
            taken.weights_bytes,
            taken.kv_cache_bytes,
            taken.compute_bytes,
            process_bytes,
        )
