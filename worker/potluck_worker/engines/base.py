"""The seam between the worker daemon and an engine: what crosses the pipe, and who is behind it.

The daemon never loads a model. Each loaded model lives in a child process,
`python -m potluck_worker.engine_host`, which holds one `Engine` and speaks the frames below over a
socketpair. Frames are plain data; `frames.py` puts them on the wire.

Order: the daemon sends `Load` once and first. The child answers `Loading`*, then `Loaded` or
`LoadFailed`. After that the daemon may send `Generate`, `Embed` and `Cancel` at any time. For each
`Generate` the child sends `Started`?, `Produced`*, `Finished` in that order, and `Finished` exactly
once, whatever happens; deltas of one request are contiguous in tokens and in text. For each `Embed`
it sends one `Embedded`, or a `Finished` that says why not. `Close`, or the end of the pipe, ends
the child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from potluck_proto.errors import PotluckError, from_proto
from potluck_proto.v1 import types_pb2 as types

RequestId = str
"""The generation id that the daemon was given."""

Count = Annotated[int, Meta(ge=0, lt=2**32)]
"""A number of tokens, or a place among them; `frames.py` refuses others."""

SizeBytes = Annotated[int, Meta(ge=0)]


class Frame(Struct, frozen=True, tag=str.lower, tag_field="kind"):
    """What crosses the pipe as one piece. Its kind on the wire is the name of its class."""


KvType = Literal["f16", "q8_0", "q4_0"]
"""What the cache of keys and values stores."""


# --- daemon to child ---------------------------------------------------------------------------


class Load(Frame, frozen=True):
    """Load a model."""

    path: str
    context_length: int
    """Tokens for each sequence."""
    slots: int
    """Sequences at once."""
    kv_cells: int | None = None
    """Tokens in the KV cache, all sequences together; `None` lets each fill its context."""
    kv_type: KvType = "f16"
    gpu_layers: int | None = None
    """Layers on the accelerator; `None` means all that there are."""
    host_experts: int = 0
    """Layers, from the first on, whose experts are in main memory all the same."""
    cards: Sequence[str] = ()
    """Where the cards that hold it are on the PCI bus; empty leaves them to the engine."""
    flash_attention: bool | None = None
    """`None` leaves it to the engine."""
    threads: int | None = None
    """`None` takes the physical cores, and fewer while other programs keep them busy."""
    lora_adapters: Sequence[str] = ()
    """Paths of adapters, each applied whole."""
    prompt_format: str = ""
    """One of `formats.py`, in place of the file's chat template; empty takes that."""


Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn as the chat template sees it."""

    role: Role
    content: str
    reasoning: str = ""
    """What the assistant thought before it spoke; templates know it as `reasoning_content`."""
    tool_calls: str = ""
    """The calls that the assistant made: JSON, a list of `{"id", "name", "arguments"}`."""
    tool_call_id: str = ""
    """Which call a `tool` message answers."""


@dataclass(frozen=True, slots=True)
class Dry:
    """The penalty on repeated sequences ("don't repeat yourself")."""

    multiplier: float
    base: float = 1.75
    allowed_length: int = 2
    penalty_window: int = -1
    """Tokens that it looks back; -1 is the whole context."""
    sequence_breakers: Sequence[str] = ("\n", ":", '"', "*")


@dataclass(frozen=True, slots=True)
class Xtc:
    """Drop the top choices now and then ("exclude top choices")."""

    probability: float
    threshold: float = 0.1


@dataclass(frozen=True, slots=True)
class Mirostat:
    """Mirostat 2.0."""

    tau: float = 5.0
    eta: float = 0.1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `None` means: the file's recommendation, else the engine's default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    penalty_window: int | None = None
    """Last tokens that the penalties look at; -1 is the whole context."""
    dry: Dry | None = None
    xtc: Xtc | None = None
    mirostat: Mirostat | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    """Position `i` is drawn with a generator seeded by (seed, i)."""
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    grammar: str = ""
    """GBNF; at most one of this and `json_schema`."""
    json_schema: str = ""
    logprobs: int | None = None
    """Alternatives to report at each position, beside the token that was drawn."""


class Generate(Frame, frozen=True):
    """Answer a conversation, or go on with an answer begun elsewhere."""

    request_id: RequestId
    messages: Sequence[ChatMessage]
    sampling: Sampling = Sampling()
    continue_token_ids: Sequence[int] = ()
    """The answer so far, for an answer that moved here; its indices go on from there."""
    continue_text: str = ""
    """The same as text."""
    tools: str = ""
    """Functions that the model may call: JSON, a list as the template takes it."""
    thinking: bool | None = None
    """Whether a model that can think first shall; `None` leaves it to the template."""


class Embed(Frame, frozen=True):
    """Embed texts."""

    request_id: RequestId
    inputs: Sequence[str]


class Cancel(Frame, frozen=True):
    """End a request within one step. Unknown ids are ignored: it may just have ended."""

    request_id: RequestId


class Close(Frame, frozen=True):
    """End the child."""


# --- child to daemon ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of `potluck_proto.errors` as plain data."""

    code: Annotated[int, Meta(ge=0, lt=2**31)]
    """A value of `potluck.v1.ErrorCode`."""
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)


def failure_of(error: PotluckError) -> Failure:
    """Return an error as plain data."""
    return Failure(int(error.code), error.message, error.fields)


def error_of(failure: Failure) -> PotluckError:
    """Return the error that `failure_of` described."""
    code = types.ErrorCode.ValueType(failure.code)
    return from_proto(types.Error(code=code, message=failure.message, fields=failure.fields))


class Loading(Frame, frozen=True):
    """How far the load is, 0 to 1."""

    fraction: Annotated[float, Meta(ge=0, le=1)]


class Loaded(Frame, frozen=True):
    """The model is in memory and takes requests. Sizes as the engine reports them."""

    weights_bytes: SizeBytes
    kv_cache_bytes: SizeBytes
    compute_bytes: SizeBytes
    context_length: Count
    slots: Count
    flash_attention: bool = False
    longest_step_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """What a step may take on this machine, as the warm-up tells; 0 where that is no matter. An
    engine is not taken for stalled before twice that."""


class LoadFailed(Frame, frozen=True):
    """The model cannot be loaded; the child ends."""

    failure: Failure


class Started(Frame, frozen=True):
    """The request left the engine's queue; its prefill begins."""

    request_id: RequestId
    prompt_tokens: Count
    cached_prompt_tokens: Count


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms of probabilities at one position.

    Of the model's own distribution, before any sampling option. The token that was drawn stands
    first, then the likeliest, the likeliest of them first.
    """

    token_ids: Sequence[Count]
    logprobs: Sequence[float]


class Produced(Frame, frozen=True):
    """A piece of an answer."""

    request_id: RequestId
    first_token_index: Count
    token_ids: Sequence[Count]
    text_offset: Count
    """Where `text` starts in the answer, in code points."""
    text: str
    logprobs: Sequence[TokenLogprobs] = ()
    """One for each of `token_ids` where they were asked for."""

    def joined(self, following: Produced) -> Produced:
        """Return this piece and the one after it as one."""
        return Produced(
            self.request_id,
            self.first_token_index if self.token_ids else following.first_token_index,
            [*self.token_ids, *following.token_ids],
            self.text_offset,
            self.text + following.text,
            [*self.logprobs, *following.logprobs],
        )


def failed(request_id: RequestId, error: PotluckError) -> Finished:
    """Return the end of a request that failed."""
    return Finished(request_id, "failed", failure=failure_of(error))


EndReason = Literal["end_of_turn", "stop_string", "max_tokens", "context_full", "stopped", "failed"]


class Finished(Frame, frozen=True):
    """The end of a request."""

    request_id: RequestId
    reason: EndReason
    stop_string: str = ""
    failure: Failure | None = None
    """Set exactly for the reason `failed`."""
    prompt_tokens: Count = 0
    cached_prompt_tokens: Count = 0
    completion_tokens: Count = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Hold that a failure says what failed, and nothing else does."""
        if (self.reason == "failed") != (self.failure is not None):
            raise ValueError(f"an end for the reason {self.reason} with failure {self.failure}")


class Embedded(Frame, frozen=True):
    """The result of `Embed`."""

    request_id: RequestId
    embeddings: Sequence[bytes]
    """A vector of unit length for each input: numbers of 4 bytes, little-endian."""
    prompt_tokens: Count


class Stats(Frame, frozen=True):
    """The engine's load; sent at least twice a second while it works, and when it comes to rest."""

    slots_busy: Count
    queue_length: Count
    tokens_per_second: float
    """Decoded over the last second, all sequences together."""
    steps: Count
    """Counts up with each step: an engine that works and does not step is stalled."""
    fullness: float = 0.0
    """How near to full use it ever came, 0 to 1: a whole batch at the end of a full cache is 1."""


ToChild = Load | Generate | Embed | Cancel | Close
FromChild = Loading | Loaded | LoadFailed | Started | Produced | Finished | Embedded | Stats


# --- the engine --------------------------------------------------------------------------------


class Engine(Protocol):
    """One loaded model, driven step by step from one thread.

    An engine is free of threads, pipes and clocks of its own, so that a test drives it directly.
    It raises `potluck_proto.errors.PotluckError` from `load` alone; a request that fails is a
    `Finished` with the reason `failed` and leaves the others alone.
    """

    def load(self, load: Load) -> Loaded:
        """Load the model."""
        ...

    def submit(self, request: Generate | Embed) -> None:
        """Take a request; it starts in a later step."""
        ...

    def cancel(self, request_id: RequestId) -> None:
        """End a request; its `Finished` comes out of the next step."""
        ...

    def step(self) -> list[FromChild]:
        """Do one batch of work for all sequences; return what came of it."""
        ...

    @property
    def busy(self) -> bool:
        """Whether there is anything to step."""
        ...

    @property
    def slots_busy(self) -> int:
        """Sequences under way."""
        ...

    @property
    def queue_length(self) -> int:
        """Requests that wait for a slot."""
        ...

    @property
    def fullness(self) -> float:
        """How near to full use it ever came, as `Stats` has it."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
