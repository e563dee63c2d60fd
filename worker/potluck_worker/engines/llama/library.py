"""llama.cpp as a library: start it, listen to its log, open files and contexts.

llama.cpp tells some things only in its log, such as the reasons of failures, so the log is read as
it is written. It aborts the process on some broken files: everything here runs in a child.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import psutil
from llama_cpp import llama_cpp as api

from potluck_proto.errors import ModelFileError, UnsupportedModel

GGUF_MAGIC = b"GGUF"
LEVEL_DEBUG = 1
LEVEL_ERROR = 4
LEVEL_CONTINUED = 5
KEPT_SEQUENCES = 32
"""Ended answers that are remembered, beside those under way."""

COMPUTED_TOGETHER = 128
"""Tokens of a batch that pass through the model together; on processors more are no faster."""

PLAIN_LIMIT_BYTES = 320 * 2**20
"""What scores of plain attention may take on a processor. Measured with 135M parameters: flash
attention makes a token at depth 1,024 take 24 ms instead of 14, a prompt of 1,024 tokens 1.6 s
instead of 2.0; it needs no memory for scores, and llama.cpp wants it where the cache is quantized.
"""

KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
"""Values of `ggml_type`."""

_OUTPUT_SIZE = re.compile(r"output buffer size\s*=\s*([\d.]+) MiB")
_FLASH_ATTENTION = re.compile(
    r"(?:flash_attn\s*=|Flash Attention(?: not supported, set to)?) (enabled|disabled)"
)


class Log:
    """Listens to llama.cpp; writes what matters to stderr, which the daemon keeps in a file.

    Attributes:
        errors: The last lines that said what went wrong.
        output_bytes: The buffer of logits of the last context that was made.
        flash_attention: Whether that context uses it.
    """

    _listening: ClassVar[Log | None] = None
    """Kept here, since llama.cpp calls the last log that was made for as long as the process lives:
    one that was collected as garbage would crash it at the next line."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.output_bytes = 0
        self.flash_attention = False
        self._level = LEVEL_DEBUG
        self._callback = api.llama_log_callback(self._receive)
        api.llama_log_set(self._callback, ctypes.c_void_p(0))
        Log._listening = self

    def _receive(self, level: int, text: bytes, _data: object) -> None:
        if level != LEVEL_CONTINUED:
            self._level = level
        if self._level <= LEVEL_DEBUG:
            return
        line = text.decode(errors="replace")
        sys.stderr.write(line)
        if self._level >= LEVEL_ERROR:
            self.errors.append(line.strip())
        if match := _OUTPUT_SIZE.search(line):
            self.output_bytes = int(float(match[1]) * 2**20)
        elif match := _FLASH_ATTENTION.search(line):
            self.flash_attention = match[1] == "enabled"


def start() -> Log:
    """Start the library; call once in a process."""
    log = Log()
    api.llama_backend_init()
    return log


def check_file(path: Path) -> None:
    """Raise `ModelFileError` for what is plainly no GGUF, in better words than the library's."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise ModelFileError(f"{path.name} cannot be read: {error.strerror}.") from error
    if size_bytes == 0:
        raise ModelFileError(f"{path.name} is empty. Download it again.")
    if magic != GGUF_MAGIC:
        raise ModelFileError(
            f"{path.name} is not a GGUF file: it starts with {magic!r}. "
            "Get a file that ends in .gguf from where the model is published."
        )
    if size_bytes < 24:
        raise ModelFileError(
            f"{path.name} is truncated: {size_bytes} bytes do not hold a header. Download it again."
        )


class Model:
    """An open model file; closes with the process or by `close`.

    Args:
        path: A GGUF file, or the first part of a split one.
        log: The library's log, for the reason of a failure.
        vocabulary_only: Read the header and the vocabulary, no weights.
        dry: Reserve no memory for weights, so that a context only counts.
        gpu_layers: Layers on the accelerator; `None` means all.
        progress: Called with 0 to 1 while it loads.

    Raises:
        ModelFileError: It is truncated or damaged.
        UnsupportedModel: This llama.cpp does not know the architecture.
    """

    def __init__(
        self,
        path: Path,
        log: Log,
        *,
        vocabulary_only: bool = False,
        dry: bool = False,
        gpu_layers: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        check_file(path)
        parameters = api.llama_model_default_params()
        parameters.vocab_only = vocabulary_only
        parameters.no_alloc = dry
        if gpu_layers is not None:
            parameters.n_gpu_layers = gpu_layers
        # A dry run asserts with any other mode, and a load must take what the dry run counted. On a
        # processor, weights are repacked into copies, so mapping the file as well would cost more.
        parameters.load_mode = api.LLAMA_LOAD_MODE_NONE

        def report(fraction: float, _data: object) -> bool:
            if progress is not None:
                progress(fraction)
            return True

        parameters.use_extra_bufts = not has_amx()
        callback = api.llama_progress_callback(report)
        parameters.progress_callback = callback
        log.errors.clear()
        self.pointer: Any = api.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.pointer:
            raise _load_error(path, log)
        self.vocabulary: Any = api.llama_model_get_vocab(self.pointer)
        self.log = log

    def metadata(self) -> dict[str, str]:
        """Return the file's metadata as text; arrays are left out by the library."""
        found = {}
        key, size = ctypes.create_string_buffer(256), 2**20
        value = ctypes.create_string_buffer(size)
        for index in range(api.llama_model_meta_count(self.pointer)):
            api.llama_model_meta_key_by_index(self.pointer, index, key, len(key))
            api.llama_model_meta_val_str_by_index(self.pointer, index, value, size)
            found[key.value.decode(errors="replace")] = value.value.decode(errors="replace")
        return found

    def require_text_generation(self, metadata: Mapping[str, str]) -> None:
        """Raise `UnsupportedModel` for a model that does not go on with a text token by token.

        llama.cpp would abort where such a model is asked for a next token.
        """
        architecture = metadata.get("general.architecture", "")
        if (
            api.llama_model_has_encoder(self.pointer)
            or api.llama_model_is_diffusion(self.pointer)
            or metadata.get(f"{architecture}.attention.causal") == "false"
        ):
            raise UnsupportedModel(
                f"The model has the architecture {architecture!r}, which embeds or rewrites whole "
                "texts and cannot chat. Choose a model made for chat or completion."
            )

    @property
    def training_context_length(self) -> int:
        """Tokens of context that the model was trained for."""
        return int(api.llama_model_n_ctx_train(self.pointer))

    @property
    def divisible_memory(self) -> bool:
        """Whether what it remembers of a text can be cut: a recurrent state cannot."""
        recurrent = api.llama_model_is_recurrent(self.pointer)
        return not (recurrent or api.llama_model_is_hybrid(self.pointer))

    @property
    def layers(self) -> int:
        """Layers that cards can hold; the output counts as one."""
        return int(api.llama_model_n_layer(self.pointer)) + 1

    def sequences(self, slots: int) -> int:
        """Return how many sequences a context gets: those under way, and ended ones to reuse.

        Recurrent states take memory for each; there, an ended one keeps its slot until that is
        needed.
        """
        if not self.divisible_memory:
            return slots
        return min(slots + KEPT_SEQUENCES, int(api.llama_max_parallel_sequences()))

    def close(self) -> None:
        """Free the model."""
        api.llama_model_free(self.pointer)


def open_context(
    model: Model,
    *,
    cells: int,
    slots: int,
    batch: int,
    kv_type: str = "f16",
    flash_attention: bool | None = None,
    sequences: int | None = None,
) -> Any:
    """Return a context with a KV cache of so many cells (tokens), shared by all sequences.

    Args:
        model: The model.
        cells: Tokens in the cache, all sequences together.
        slots: Sequences at once.
        batch: The most tokens of a step.
        kv_type: What keys and values are stored as.
        flash_attention: `None` leaves it to what is faster here.
        sequences: Rows of logits to make room for, `None` one for each sequence.

    Raises `ModelFileError` where the library refuses.
    """
    sequences = model.sequences(slots) if sequences is None else sequences
    parameters = api.llama_context_default_params()
    parameters.n_ctx = cells
    parameters.n_seq_max = sequences
    parameters.n_batch = batch
    parameters.n_ubatch = min(batch, COMPUTED_TOGETHER)
    # No step draws more tokens than there are slots; room for the logits of a whole batch would
    # take 300 MB with a vocabulary of 152,000.
    parameters.n_outputs_max = sequences
    parameters.kv_unified = True
    parameters.type_k = parameters.type_v = KV_TYPES[kv_type]
    if flash_attention is None and not api.llama_supports_gpu_offload():
        flash_attention = kv_type != "f16" or cells > plain_attention_cells(model)
    if flash_attention is not None:
        parameters.flash_attn_type = int(flash_attention)
    parameters.no_perf = True
    model.log.errors.clear()
    context = api.llama_init_from_model(model.pointer, parameters)
    if not context:
        reason = model.log.errors[0] if model.log.errors else "no reason given"
        raise ModelFileError(
            f"llama.cpp cannot make a context of {cells:,} tokens for {slots} sequences: "
            f"{reason}. Load it with a shorter context, fewer slots, or the kv_type f16."
        )
    return context


def scores_bytes(model: Model, cells: int) -> int:
    """Return the largest matrix of scores without flash attention: cells by tokens by heads."""
    return 4 * cells * COMPUTED_TOGETHER * int(api.llama_model_n_head(model.pointer))


def plain_attention_cells(model: Model) -> int:
    """Return the largest cache, in tokens, over which a processor computes scores plainly."""
    return PLAIN_LIMIT_BYTES // scores_bytes(model, 1)


def physical_cores() -> int:
    """Return the cores that this process may use: more threads than that only wait for each other.

    Threads of one core share its arithmetic, so only whole cores count.
    """
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed_cores()))


def allowed_cores() -> int:
    """Return the cores, hardware threads counted, that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_amx() -> bool:
    """Say whether llama.cpp would repack weights for Intel's AMX.

    Its AMX kernels (llama-cpp-python 0.3.36) crash on the first batch of two tokens on a virtual
    machine that has them, with every shape tried; without them, nothing is repacked on such a
    processor. Home machines have no AMX.
    """
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _load_error(path: Path, log: Log) -> ModelFileError | UnsupportedModel:
    """Return the library's last words on a file as an error."""
    said = " ".join(log.errors)
    if match := re.search(r"unknown model architecture: '([^']*)'", said):
        return UnsupportedModel(
            f"{path.name} has the architecture {match[1]!r}, which this llama.cpp does not know. "
            "A newer llama-cpp-python may."
        )
    reason = log.errors[0].split(": ", 1)[-1] if log.errors else "no reason given"
    truncated = "file bounds" in said or "end of file" in said or "failed to read" in said
    kind = "is truncated" if truncated else "cannot be loaded"
    return ModelFileError(f"{path.name} {kind}: {reason}. Download it again.")
