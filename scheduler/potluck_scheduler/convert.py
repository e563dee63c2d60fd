"""Between the contract's messages and the core's dataclasses."""

from __future__ import annotations

import time
from functools import lru_cache

from potluck_proto.errors import from_proto
from potluck_proto.ids import GenerationId, NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.core.explanation import Candidate, Explanation, Step, Verdict
from potluck_scheduler.core.model import Loaded, Model, ModelKey, Node, Request
from potluck_scheduler.core.resolve import default_model
from potluck_scheduler.prefix import prefix_of

STEPS = {
    Step.WARM: types.PLACEMENT_STEP_WARM,
    Step.COLD_FITS: types.PLACEMENT_STEP_COLD_FITS,
    Step.AFTER_EVICTION: types.PLACEMENT_STEP_AFTER_EVICTION,
    Step.PARTLY_OFFLOADED: types.PLACEMENT_STEP_PARTLY_OFFLOADED,
    Step.QUEUED: types.PLACEMENT_STEP_QUEUED,
    Step.REFUSED: types.PLACEMENT_STEP_REFUSED,
}
VERDICTS = {
    Verdict.CHOSEN: types.VERDICT_CHOSEN,
    Verdict.POSSIBLE: types.VERDICT_POSSIBLE,
    Verdict.REJECTED: types.VERDICT_REJECTED,
}
FORMATS = {types.MODEL_FORMAT_GGUF: "gguf", types.MODEL_FORMAT_SAFETENSORS: "safetensors"}
ACCELERATORS = {
    types.ACCELERATOR_CUDA: "cuda",
    types.ACCELERATOR_ROCM: "rocm",
    types.ACCELERATOR_METAL: "metal",
    types.ACCELERATOR_VULKAN: "vulkan",
}

COMMERCIAL = {types.COMMERCIAL_USE_YES, types.COMMERCIAL_USE_CONDITIONS}

LONGEST_TOKEN_BYTES = 8
"""A prompt has more tokens than its bytes, without spaces, over this: whatever the vocabulary."""

USUAL_TOKEN_BYTES = 4


def node_from_proto(state: types.NodeState) -> Node:
    """Return what the core needs of a worker's state."""
    cards = [device for device in state.devices if device.accelerator in ACCELERATORS]
    # What a unified device has is main memory, which is there already.
    devices = [device for device in state.devices if not device.unified]
    own = [device for device in devices if device.accelerator in ACCELERATORS]
    hosts = [device for device in devices if device.accelerator not in ACCELERATORS]
    fast, beside = (own, hosts) if own else (hosts, [])
    return Node(
        node_id=NodeId(state.node_id),
        name=state.name,
        models=tuple(_model(model.SerializeToString()) for model in state.models),
        loaded=tuple(
            _loaded(model) for model in state.loaded if model.state != types.MODEL_STATE_FAILED
        ),
        memory_free_bytes=sum(device.memory_free_bytes for device in fast),
        memory_total_bytes=sum(device.memory_total_bytes for device in fast),
        spill_free_bytes=sum(device.memory_free_bytes for device in beside),
        spill_total_bytes=sum(device.memory_total_bytes for device in beside),
        accelerator=ACCELERATORS[cards[0].accelerator] if cards else "cpu",
        engines=tuple(engine.name for engine in state.engines if engine.available),
        tags=tuple(state.tags),
        draining=state.draining,
    )


@lru_cache(maxsize=4096)
def _model(description: bytes) -> Model:
    """Return a model; the same for the same words, as a node says them twice a second."""
    model = types.ModelDescription.FromString(description)
    return Model(
        key=ModelKey(model.name, model.quantization),
        format=FORMATS.get(model.format, ""),
        architecture=model.architecture,
        file_bytes=model.file_bytes,
        bits_per_weight=model.bits_per_weight,
        parameter_count=model.parameter_count,
        memory_needed_bytes=model.memory_needed_bytes,
        context_length=model.context_length,
        training_context_length=model.training_context_length,
        slots=max(1, model.slots),
        engines=tuple(model.engines),
        licence=model.license,
        commercial=model.commercial_use in COMMERCIAL,
        tokenizer_sha256=model.tokenizer_sha256,
        template_sha256=model.template_sha256,
        weights_sha256=model.weights_sha256,
        starter=model.starter,
        embeds_only=model.embeds_only,
        problem=from_proto(model.problem) if model.HasField("problem") else None,
    )


def _loaded(model: types.LoadedModel) -> Loaded:
    return Loaded(
        key=ModelKey(model.name, model.quantization),
        slots=max(1, model.slots),
        slots_busy=model.slots_busy,
        queue_length=model.queue_length,
        tokens_per_second=model.tokens_per_second,
        context_length=model.context_length,
        memory_bytes=model.memory_booked_bytes or model.memory_bytes,
        ready=model.state == types.MODEL_STATE_READY,
        draining=model.state == types.MODEL_STATE_DRAINING,
        load_fraction=model.load_fraction,
        pinned=model.pinned,
        idle_seconds=model.idle_seconds,
    )


def request_from_proto(
    generation_id: GenerationId,
    model: str,
    asked: pb.SubmitRequest,
    conversation: tuple[types.Message, ...],
    chat_id: str,
) -> Request:
    """Return a request as the core takes it.

    Args:
        generation_id: The answer.
        model: As typed, or as the chat has it.
        asked: What was submitted.
        conversation: All that the model is to see.
        chat_id: Stands for the client where none is named.
    """
    contents = [message.content.encode() for message in conversation]
    ink_bytes = sum(len(b"".join(content.split())) for content in contents)
    return Request(
        generation_id=generation_id,
        model=model,
        nodes=tuple(asked.nodes),
        tags=tuple(asked.tags),
        client=asked.client or chat_id,
        context_tokens=ink_bytes // LONGEST_TOKEN_BYTES,
        prompt_tokens=sum(map(len, contents)) // USUAL_TOKEN_BYTES,
        answer_tokens=asked.sampling.max_tokens,
        prefix=prefix_of(conversation),
        may_move=not asked.no_move,
    )


def explanation_to_proto(explanation: Explanation) -> types.Explanation:
    """Return a decision as it is stored and shown."""
    return types.Explanation(
        model=explanation.model.name,
        quantization=explanation.model.quantization,
        step=STEPS[explanation.step],
        node_id=explanation.node_id or "",
        node_name=explanation.node_name,
        summary=explanation.summary,
        candidates=[_candidate(candidate) for candidate in explanation.candidates],
        others=explanation.others,
        advice=explanation.advice,
        decided_unix_seconds=time.time(),
    )


def _candidate(candidate: Candidate) -> types.Candidate:
    return types.Candidate(
        node_id=candidate.node_id,
        node_name=candidate.node_name,
        verdict=VERDICTS[candidate.verdict],
        reason=candidate.reason,
        needed_bytes=candidate.needed_bytes,
        free_bytes=candidate.free_bytes,
        queue_length=candidate.queue_length,
        tokens_per_second=candidate.tokens_per_second,
    )


def model_summaries(
    states: list[types.NodeState], configured_default: str
) -> list[pb.ModelSummary]:
    """Return the pool's models, each once, the default marked."""
    default = configured_default or default_model(map(node_from_proto, states))
    summaries: dict[ModelKey, pb.ModelSummary] = {}
    for state in states:
        loaded = {ModelKey(model.name, model.quantization) for model in state.loaded}
        for model in state.models:
            key = ModelKey(model.name, model.quantization)
            summary = summaries.get(key)
            if summary is None:
                summary = summaries[key] = pb.ModelSummary(description=model)
            elif model.engines and not summary.usable:
                # The description of a node that can use it says more than that of one that cannot.
                summary.description.CopyFrom(model)
            summary.usable |= bool(model.engines) and not model.HasField("problem")
            summary.node_names.append(state.name)
            if key in loaded:
                summary.loaded_on.append(state.name)
            summary.is_default = default in (model.name, str(key))
    return list(summaries.values())
