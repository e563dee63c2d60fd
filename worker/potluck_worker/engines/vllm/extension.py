"""Runs inside vLLM's workers, which hold the model: what vLLM has no option for.

vLLM mixes the class into its own worker, in the engine's process or, with several cards, in each
of their processes; `Core` calls it.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any


class WorkerExtension:
    """Methods that vLLM's worker gets; its own attributes are `model_runner` and others."""

    model_runner: Any
    use_v2_model_runner: bool

    def draw_by_position(self) -> None:
        """Have each token of a seeded request drawn with a generator seeded by its position.

        vLLM's newer way to run models, which it has for cards, does so by itself. The older one,
        which it has for processors, draws one token after the other from one generator: an answer
        that moved cannot go on with that, and where a long prompt takes two steps, it fails to wind
        the generator back and takes the engine with it.
        """
        if not self.use_v2_model_runner:
            batch = self.model_runner.input_batch
            batch.generators = _Generators(batch.generators)
            self.model_runner.sampler.register_forward_pre_hook(self._seed_generators)

    def _seed_generators(self, _sampler: object, _arguments: object) -> None:
        batch, requests = self.model_runner.input_batch, self.model_runner.requests
        for row, generator in batch.generators.items():
            seed = requests[batch.req_ids[row]].sampling_params.seed
            generator.manual_seed(position_seed(seed, int(batch.num_tokens_no_spec[row])))

    def held_bytes(self) -> tuple[int, int, int]:
        """Return the bytes of weights, of the KV cache, and of the rest, as far as they are known.

        On a processor PyTorch does not count, and weights are repacked into memory that no tensor
        shows: 0 stands for both there.
        """
        runner = self.model_runner
        kv_cache = sum(_storage_sizes(runner.kv_caches))
        if runner.device.type != "cuda":
            return 0, kv_cache, 0
        import torch

        model = runner.get_model()
        weights = sum(_storage_sizes([*model.parameters(), *model.buffers()]))
        most = torch.cuda.max_memory_reserved(runner.device)
        return weights, kv_cache, max(0, most - weights - kv_cache)


class _Generators(dict[int, Any]):
    """Generators by the row of their request; asked for one, to wind it back, it has none."""

    def get(self, _row: object, default: Any = None) -> Any:
        """Return the default: each position is seeded anew, so there is nothing to wind back."""
        return default


def position_seed(seed: int, position: int) -> int:
    """Return the seed of one position; neighbours have nothing in common.

    The generator for processors uses 32 bits.
    """
    raw = struct.pack("<qq", seed, position)
    return int.from_bytes(hashlib.blake2b(raw, digest_size=4).digest())


def _storage_sizes(tensors: list[Any]) -> list[int]:
    """Return the sizes of what lies behind tensors, each counted once."""
    storages = {s.data_ptr(): s.nbytes() for t in tensors if (s := t.untyped_storage())}
    return list(storages.values())
