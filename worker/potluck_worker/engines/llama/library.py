"""llama.cpp as a library: start it, open files and contexts.

It aborts the process on some broken files: everything here runs in a child.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as api

from potluck_proto.errors import ModelFileError, UnsupportedModel
from potluck_worker.engines.llama.ggml import function
from potluck_worker.engines.llama.log import Log
from potluck_worker.engines.llama.snapshots import room_for
from potluck_worker.splits import parts_of

GGUF_MAGIC = b"GGUF"
KEPT_SEQUENCES = 32
"""Ended answers that are remembered, beside those under way."""

KEPT_LEAST_TOKENS = 4096
"""What they may hold in the cache however small the model is."""

COMPUTED_TOGETHER = 128
"""Tokens of a batch that pass through the model together; on processors more are no faster."""

BATCH_TOKENS = 512
"""The most tokens in one step; larger batches are hardly faster."""

EMBEDDED_TOGETHER = 32
"""Tokens that a model that also chats embeds in a step. Each of them takes room for logits, which
llama.cpp computes though nobody wants them: 20 MB together with a vocabulary of 152,000."""

NO_ROOM = 1
"""What `llama_decode` returns when the KV cache has no place for the batch."""

KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
"""Values of `ggml_type`."""


def start() -> Log:
    """Start the library; call once in a process."""
    # Where it aborts, it would start a debugger if there is one, which takes seconds and buries the
    # line that says why.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    log = Log()
    api.llama_backend_init()
    return log


def check_file(path: Path) -> None:
    """Raise `ModelFileError` for what is plainly no GGUF, in better words than the library's."""
    if missing := [part.name for part in parts_of(path)[1:] if not part.exists()]:
        raise ModelFileError(
            f"{path.name} is not all of the model: {', '.join(missing[:3])} is missing beside it. "
            "Download it too."
        )
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
        host_experts: Layers, from the first on, whose experts are in main memory all the same.
        progress: Called with 0 to 1 while it loads.

    Attributes:
        name: The file's, without its ending.
        architecture: The kind of model, for example `llama`.

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
        host_experts: int = 0,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        check_file(path)
        parameters = api.llama_model_default_params()
        parameters.vocab_only = vocabulary_only
        parameters.no_alloc = dry
        if gpu_layers is not None:
            parameters.n_gpu_layers = gpu_layers
        overrides = _experts_in_main_memory(host_experts)
        if host_experts:
            parameters.tensor_buft_overrides = ctypes.addressof(overrides)
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
        log.listen_anew()
        self.pointer: Any = api.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.pointer:
            raise _load_error(path, log)
        self.name = path.stem
        self._metadata = self.metadata()
        self.architecture = self._metadata.get("general.architecture", "")
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

    @property
    def encodes(self) -> bool:
        """Whether `llama_encode` computes it rather than `llama_decode`."""
        return bool(api.llama_model_has_encoder(self.pointer))

    @property
    def embeds_only(self) -> bool:
        """Whether it looks at a text from both ends, and so can embed one but not go on with it.

        llama.cpp would abort where such a model is asked for a next token.
        """
        name = self.architecture
        both_ways = "bert" in name or name == "gemma-embedding"  # whatever their files say
        return both_ways or self.encodes or self._said("attention.causal") == "false"

    @property
    def pooling(self) -> int:
        """How the vectors of a text's tokens become one: a value of `llama_pooling_type`."""
        said = self._said("pooling_type")
        known = (api.LLAMA_POOLING_TYPE_CLS, api.LLAMA_POOLING_TYPE_LAST)
        return int(said) if said in map(str, known) else api.LLAMA_POOLING_TYPE_MEAN

    def _said(self, key: str) -> str:
        """Return what the file says of its architecture, or nothing."""
        return self._metadata.get(f"{self.architecture}.{key}", "")

    def require_use(self) -> None:
        """Raise `UnsupportedModel` for a model that neither chats nor embeds."""
        kind = ""
        if api.llama_model_is_diffusion(self.pointer):
            kind = "rewrites whole texts"
        elif self.encodes and api.llama_model_has_decoder(self.pointer):
            kind = "turns one text into another"
        elif self._said("pooling_type") == str(api.LLAMA_POOLING_TYPE_RANK):
            kind = "ranks texts"
        elif api.llama_vocab_type(self.vocabulary) == api.LLAMA_VOCAB_TYPE_NONE:
            kind = "has no vocabulary"
        if kind:
            raise UnsupportedModel(
                f"{self.name} ({self.architecture}) {kind}, which Potluck has no use for. Choose a "
                "model made for chat, completion or embedding."
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

    @property
    def expert_layers(self) -> int:
        """Layers with experts, of which a token uses a few; 0 where there are none."""
        experts = self._said("expert_count") not in ("", "0")
        return int(api.llama_model_n_layer(self.pointer)) if experts else 0

    @property
    def idle_experts(self) -> float:
        """The share of experts that a token does not pass through; 0 where there are none."""
        experts, used = self._said("expert_count"), self._said("expert_used_count")
        if not (experts.isdecimal() and used.isdecimal() and 0 < int(used) <= int(experts)):
            return 0.0
        return 1 - int(used) / int(experts)

    @property
    def window(self) -> int:
        """Tokens that layers with a sliding window look back; 0 without such layers."""
        return int(api.llama_model_n_swa(self.pointer))

    @property
    def kept_tokens(self) -> int:
        """Return what ended answers may hold in the cache, divided by the answers under way.

        Each of those passes over all of it with each token. So many tokens would cost as much as
        the weights do if they were looked at: 2 operations for a weight, 4 for a number of a query.
        They are passed over, which takes a tenth of that: measured with 135M parameters, which
        keep 7,787, 8,000 make the steps of one answer 11 ms instead of 8, and 1,000 make those of
        16 answers 43 instead of 41.
        """
        pointer = self.pointer
        query = int(api.llama_model_n_layer(pointer)) * int(api.llama_model_n_embd(pointer))
        return max(KEPT_LEAST_TOKENS, int(api.llama_model_n_params(pointer)) // query)

    def sequences(self, slots: int) -> int:
        """Return how many sequences a context gets: those under way, and ended ones to reuse.

        Recurrent states and sliding windows take memory for each; there, an ended one keeps its
        slot until that is needed.
        """
        one_each = self.window or not self.divisible_memory
        if one_each and not self.embeds_only:
            return slots
        return min(slots + KEPT_SEQUENCES, int(api.llama_max_parallel_sequences()))

    def batch_tokens(self, context_length: int) -> int:
        """Return the most tokens in a step: a text of `context_length`, where it may not be cut."""
        return max(context_length, BATCH_TOKENS) if self.embeds_only else BATCH_TOKENS

    def scores_bytes(self, context_length: int, slots: int) -> int:
        """Return the largest matrix of scores without flash attention: cells by tokens by heads."""
        batch = self.batch_tokens(context_length)
        cells = batch if self.embeds_only else context_length * slots
        together = batch if self.embeds_only else COMPUTED_TOGETHER
        return 4 * cells * together * int(api.llama_model_n_head(self.pointer))

    def late_bytes(self, context_length: int, slots: int) -> int:
        """Return what is allocated only when it is needed, at most.

        A model that only embeds gets room for the logits of a whole step, which nobody reads; one
        that cannot go back gets copies of what it remembered.
        """
        if self.embeds_only:
            logits = int(api.llama_vocab_n_tokens(self.vocabulary))
            return 4 * logits * self.batch_tokens(context_length)
        if self.divisible_memory and not self.window:
            return 0
        return room_for(self.log.sequence_bytes(slots, self.window), slots)

    def close(self) -> None:
        """Free the model."""
        api.llama_model_free(self.pointer)


def open_context(
    model: Model,
    *,
    context_length: int,
    cells: int,
    slots: int,
    kv_type: str = "f16",
    flash_attention: bool | None = None,
) -> Any:
    """Return a context with a KV cache of so many cells (tokens), shared by all sequences.

    A model that only embeds remembers nothing from step to step, and gets no more cells than a step
    has tokens.

    Raises `ModelFileError` where the library refuses.
    """
    batch = model.batch_tokens(context_length)
    parameters = api.llama_context_default_params()
    parameters.n_seq_max = model.sequences(slots)
    if model.embeds_only:
        cells = together = outputs = batch
    else:
        together = COMPUTED_TOGETHER
        # No step draws more tokens than there are slots; room for the logits of a whole batch would
        # take 300 MB with a vocabulary of 152,000.
        outputs = max(model.sequences(slots), EMBEDDED_TOGETHER)
    parameters.n_ctx = cells
    parameters.n_batch = batch
    parameters.n_ubatch = together
    parameters.n_outputs_max = outputs
    parameters.pooling_type = api.LLAMA_POOLING_TYPE_NONE  # `Embedder` pools
    parameters.kv_unified = True
    # Layers with a sliding window keep the window of each sequence and no more. With all of a
    # context, Gemma 3 of 12B would take 6.4 GB instead of 2.5 for four conversations of 4,096.
    parameters.swa_full = False
    parameters.type_k = parameters.type_v = KV_TYPES[kv_type]
    # Unless told otherwise llama.cpp takes flash attention wherever it works. It passes over cells
    # of other sequences, where plain attention computes and then hides them. Measured with 135M
    # parameters on two cores, beside 4,000 cells of ended answers: 60 ms for a token each of 16
    # answers instead of 118, and 2 ms for a token of a prompt instead of 5.
    if flash_attention is not None:
        parameters.flash_attn_type = int(flash_attention)
    parameters.no_perf = True
    model.log.listen_to_context()
    context = api.llama_init_from_model(model.pointer, parameters)
    if not context:
        raise ModelFileError(
            f"llama.cpp cannot make a context of {cells:,} tokens for {slots} sequences: "
            f"{model.log.reason}. Load it with a shorter context, fewer slots, or the kv_type f16."
        )
    if not (model.embeds_only or api.llama_get_memory(context)):
        raise UnsupportedModel(
            f"{model.name} ({model.architecture}) cannot go on with a text. Choose a model made "
            "for chat or completion."
        )
    return context


class _Override(ctypes.Structure):
    """`llama_model_tensor_buft_override`: where the tensors of some names go."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _experts_in_main_memory(layers: int) -> ctypes.Array[_Override]:
    """Return what tells llama.cpp to keep the experts of the first layers in main memory."""
    buffer_type = function("ggml_backend_cpu_buffer_type", ctypes.c_void_p)
    overrides = (_Override * (layers + 1))()  # the last one stays empty, and ends them
    for layer in range(layers):
        overrides[layer].pattern = rf"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode()
        overrides[layer].buffer_type = buffer_type()
    return overrides


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
    architecture = log.said.get("architecture", "")
    if log.said.get("type") == "adapter":
        return UnsupportedModel(
            f"{path.name} is no model but a LoRA adapter, for {architecture!r} models. Load it "
            "with one."
        )
    if architecture == "clip":
        return UnsupportedModel(
            f"{path.name} is no model but the part of one that sees pictures, which Potluck has no "
            "use for."
        )
    if match := re.search(r"unknown model architecture: '([^']+)'", said):
        return UnsupportedModel(
            f"{path.name} has the architecture {match[1]!r}, which this llama.cpp does not know. "
            "A newer llama-cpp-python may, or vLLM, from the model's safetensors."
        )
    truncated = "file bounds" in said or "end of file" in said or "remaining file size" in said
    kind = "is truncated" if truncated else "cannot be loaded"
    return ModelFileError(f"{path.name} {kind}: {log.reason}. Download it again.")
