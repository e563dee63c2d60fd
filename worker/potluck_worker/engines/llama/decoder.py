"""A context of llama.cpp, and the batch that is computed in it step by step."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as api

from potluck_proto.errors import ModelFileError
from potluck_worker.engines.base import Load
from potluck_worker.engines.llama import library
from potluck_worker.engines.llama.batch import Batch
from potluck_worker.engines.llama.cache import KVCache
from potluck_worker.engines.llama.candidates import logits_of
from potluck_worker.engines.llama.threads import OthersLoad, ThreadPilot
from potluck_worker.hardware import allowed_cores, physical_cores


class Decoder:
    """Computes batches.

    Args:
        model: The model.
        load: How to hold it.

    Attributes:
        cells: Tokens that the KV cache holds, all sequences together.
        context: llama.cpp's context.
        cache: Who is in it.
        batch: What is computed next.
        threads: How many compute.

    Raises:
        ModelFileError: llama.cpp makes no such context.
    """

    def __init__(self, model: library.Model, load: Load) -> None:
        self._model = model
        self._compute = api.llama_encode if model.encodes else api.llama_decode
        self.cells = max(load.context_length, load.kv_cells or load.context_length * load.slots)
        self.context: Any = library.open_context(
            model,
            context_length=load.context_length,
            cells=self.cells,
            slots=load.slots,
            kv_type=load.kv_type,
            flash_attention=load.flash_attention,
        )
        self.cache = KVCache(
            self.context,
            sequences=model.sequences(load.slots),
            divisible=model.divisible_memory,
            window=model.window,
        )
        self.batch = Batch(model.batch_tokens(load.context_length))
        most = load.threads or physical_cores()
        self.threads = ThreadPilot(most, allowed_cores(), OthersLoad())

    def compute(self) -> int:
        """Compute the batch; return what `llama_decode` returns.

        Where it has no room in the cache, what ended answers left there goes first.
        """
        code = self._compute_once()
        while code == library.NO_ROOM and self.cache.drop_oldest():
            code = self._compute_once()
        return code

    def _compute_once(self) -> int:
        threads = self.threads.threads
        api.llama_set_n_threads(self.context, threads, threads)
        return int(self._compute(self.context, self.batch.native))

    def warm_up(self) -> float:
        """Compute a token twice; return the seconds that it took.

        The first time waits for pages and caches, so that the first answer does not. Raises
        `ModelFileError` where no numbers come out.
        """
        for _ in range(2):
            started = time.monotonic()
            self.batch.clear()
            row = self.batch.add(0, 0, [0], wants_logits=True)
            self._compute_once()
            api.llama_synchronize(self.context)
            api.llama_memory_clear(api.llama_get_memory(self.context), True)
        seconds = time.monotonic() - started
        if not self._model.embeds_only:
            size = int(api.llama_vocab_n_tokens(self._model.vocabulary))
            if np.isnan(logits_of(self.context, row, size)).any():
                raise ModelFileError(
                    f"{self._model.name} computes no numbers: its file is damaged. Download it "
                    "again."
                )
        return seconds

    def close(self) -> None:
        """Free the context."""
        api.llama_free(self.context)
