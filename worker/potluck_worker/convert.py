"""Between the contract's messages and the engine's frames."""

from __future__ import annotations

import struct
from typing import Any

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.engines.base import (
    ChatMessage,
    Dry,
    Embed,
    Embedded,
    EndReason,
    Finished,
    Generate,
    Mirostat,
    Produced,
    Role,
    Sampling,
    Started,
    Xtc,
    error_of,
)

ROLES: dict[int, Role] = {
    types.ROLE_SYSTEM: "system",
    types.ROLE_USER: "user",
    types.ROLE_ASSISTANT: "assistant",
    types.ROLE_TOOL: "tool",
}

END_REASONS: dict[EndReason, types.EndReason.ValueType] = {
    "end_of_turn": types.END_REASON_END_OF_TURN,
    "stop_string": types.END_REASON_STOP_STRING,
    "max_tokens": types.END_REASON_MAX_TOKENS,
    "context_full": types.END_REASON_CONTEXT_FULL,
    "stopped": types.END_REASON_STOPPED,
    "failed": types.END_REASON_FAILED,
}

ACCELERATORS: dict[str, types.Accelerator.ValueType] = {
    "cpu": types.ACCELERATOR_CPU,
    "cuda": types.ACCELERATOR_CUDA,
    "rocm": types.ACCELERATOR_ROCM,
    "metal": types.ACCELERATOR_METAL,
    "vulkan": types.ACCELERATOR_VULKAN,
}

STOP_STRINGS_LIMIT = 16_384
"""The most stop strings of a request."""

STOP_STRING_LIMIT_CHARACTERS = 1024
"""The longest stop string."""

EMBEDDED_INPUTS_LIMIT = 512
"""The most inputs of a request to embed: their vectors must fit into one message."""

EMBEDDED_LIMIT_CHARACTERS = 4 * 2**20
"""The most that all of them have: they are made into tokens between two steps of answers."""


def generate_frame(request: pb.GenerateRequest, request_id: str) -> Generate:
    """Return a request as the engine takes it. Raises `BadRequest`."""
    if not request.messages:
        raise BadRequest("The request has no messages.")
    return Generate(
        request_id=request_id,
        messages=[_message(message) for message in request.messages],
        sampling=_sampling(request.sampling),
        continue_token_ids=list(request.continuation.token_ids),
        continue_text=request.continuation.text,
        tools=request.tools_json,
        thinking=request.thinking if request.HasField("thinking") else None,
    )


def embed_frame(request: pb.EmbedRequest, request_id: str) -> Embed:
    """Return a request as the engine takes it. Raises `BadRequest`."""
    if not 0 < len(request.inputs) <= EMBEDDED_INPUTS_LIMIT:
        raise BadRequest(
            f"The request has {len(request.inputs):,} inputs to embed; between 1 and "
            f"{EMBEDDED_INPUTS_LIMIT} work."
        )
    if (characters := sum(map(len, request.inputs))) > EMBEDDED_LIMIT_CHARACTERS:
        raise BadRequest(
            f"The inputs to embed have {characters:,} characters together; at most "
            f"{EMBEDDED_LIMIT_CHARACTERS:,} work at once."
        )
    return Embed(request_id, list(request.inputs))


def embed_response(embedded: Embedded) -> pb.EmbedResponse:
    """Return what came from the engine as it goes to whoever asked."""
    vectors = (struct.unpack(f"<{len(vector) // 4}f", vector) for vector in embedded.embeddings)
    return pb.EmbedResponse(
        embeddings=[pb.Embedding(values=vector) for vector in vectors],
        prompt_tokens=embedded.prompt_tokens,
    )


def _message(message: types.Message) -> ChatMessage:
    role = ROLES.get(message.role)
    if role is None:
        raise BadRequest(f"A message has no role that is known ({message.role}).")
    return ChatMessage(
        role, message.content, message.reasoning, message.tool_calls_json, message.tool_call_id
    )


def _sampling(sampling: types.Sampling) -> Sampling:
    asked = {descriptor.name: value for descriptor, value in sampling.ListFields()}
    if len(sampling.stop) > STOP_STRINGS_LIMIT:
        raise BadRequest(
            f"The request has {len(sampling.stop):,} stop strings; at most "
            f"{STOP_STRINGS_LIMIT:,} work."
        )
    if (longest := max(map(len, sampling.stop), default=0)) > STOP_STRING_LIMIT_CHARACTERS:
        raise BadRequest(
            f"A stop string is {longest:,} characters long; at most "
            f"{STOP_STRING_LIMIT_CHARACTERS:,} work."
        )
    if sampling.HasField("dry"):
        asked["dry"] = _dry(sampling.dry)
    if sampling.HasField("xtc"):
        xtc = sampling.xtc
        asked["xtc"] = Xtc(xtc.probability, **_given(threshold=xtc.threshold))
    if sampling.HasField("mirostat"):
        mirostat = sampling.mirostat
        asked["mirostat"] = Mirostat(**_given(tau=mirostat.tau, eta=mirostat.eta))
    return Sampling(**asked | {"logit_bias": dict(sampling.logit_bias), "stop": [*sampling.stop]})


def _dry(dry: types.Dry) -> Dry:
    return Dry(
        multiplier=dry.multiplier,
        **_given(
            base=dry.base,
            allowed_length=dry.allowed_length,
            penalty_window=dry.penalty_window,
            sequence_breakers=tuple(dry.sequence_breakers),
        ),
    )


def _given(**values: Any) -> dict[str, Any]:
    """Return what a message sets: its 0 is absent, and leaves the default."""
    return {name: value for name, value in values.items() if value}


def accelerator_of(name: str) -> types.Accelerator.ValueType:
    """Return the kind of a card by the engine's name for it."""
    return ACCELERATORS.get(name, types.ACCELERATOR_UNSPECIFIED)


def response(event: Started | Produced | Finished) -> pb.GenerateResponse:
    """Return what came from the engine as it goes to the scheduler."""
    match event:
        case Started():
            return pb.GenerateResponse(progress=types.Progress(phase=types.PHASE_PREFILL))
        case Produced():
            return pb.GenerateResponse(
                delta=types.Delta(
                    first_token_index=event.first_token_index,
                    token_ids=event.token_ids,
                    text_offset=event.text_offset,
                    text=event.text,
                    logprobs=[
                        types.TokenLogprobs(token_ids=at.token_ids, logprobs=at.logprobs)
                        for at in event.logprobs
                    ],
                )
            )
        case Finished():
            return pb.GenerateResponse(end=_end(event))


def _end(event: Finished) -> types.End:
    speed = event.completion_tokens / event.decode_seconds if event.decode_seconds else 0.0
    end = types.End(
        reason=END_REASONS[event.reason],
        stop_string=event.stop_string,
        usage=types.Usage(
            prompt_tokens=event.prompt_tokens,
            cached_prompt_tokens=event.cached_prompt_tokens,
            completion_tokens=event.completion_tokens,
            queue_seconds=event.queue_seconds,
            prefill_seconds=event.prefill_seconds,
            decode_seconds=event.decode_seconds,
            tokens_per_second=speed,
        ),
    )
    if event.failure is not None:
        end.error.CopyFrom(error_of(event.failure).to_proto())
    return end
