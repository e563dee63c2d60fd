"""Between the contract's messages and the core's dataclasses."""

from __future__ import annotations

import time

from potluck_proto.errors import from_proto
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.core.model import (
    Candidate,
    Explanation,
    Loaded,
    Model,
    ModelKey,
    Node,
    Step,
    Verdict,
)
from potluck_scheduler.core.resolve import default_model

STEPS = {
    Step.WARM: types.PLACEMENT_STEP_WARM,
    Step.COLD_FITS: types.PLACEMENT_STEP_COLD_FITS,
    Step.REFUSED: types.PLACEMENT_STEP_REFUSED,
}
VERDICTS = {
    Verdict.CHOSEN: types.VERDICT_CHOSEN,
    Verdict.POSSIBLE: types.VERDICT_POSSIBLE,
    Verdict.REJECTED: types.VERDICT_REJECTED,
}


def node_from_proto(state: types.NodeState) -> Node:
    """Return what the core needs of a worker's state."""
    # What a unified device has is main memory, which is there already.
    devices = [device for device in state.devices if not device.unified]
    return Node(
        node_id=NodeId(state.node_id),
        name=state.name,
        models=tuple(_model(model) for model in state.models),
        loaded=tuple(
            Loaded(
                ModelKey(loaded.name, loaded.quantization),
                max(1, loaded.slots),
                loaded.slots_busy,
                loaded.queue_length,
                loaded.tokens_per_second,
                draining=loaded.state == types.MODEL_STATE_DRAINING,
            )
            for loaded in state.loaded
            if loaded.state != types.MODEL_STATE_FAILED
        ),
        memory_free_bytes=sum(device.memory_free_bytes for device in devices),
        memory_total_bytes=sum(device.memory_total_bytes for device in devices),
        draining=state.draining,
    )


def _model(model: types.ModelDescription) -> Model:
    return Model(
        key=ModelKey(model.name, model.quantization),
        bits_per_weight=model.bits_per_weight,
        parameter_count=model.parameter_count,
        memory_needed_bytes=model.memory_needed_bytes,
        context_length=model.context_length,
        slots=max(1, model.slots),
        engines=tuple(model.engines),
        starter=model.starter,
        embeds_only=model.embeds_only,
        problem=from_proto(model.problem) if model.HasField("problem") else None,
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
    summaries: dict[tuple[str, str], pb.ModelSummary] = {}
    for state in states:
        loaded = {(model.name, model.quantization) for model in state.loaded}
        for model in state.models:
            key = (model.name, model.quantization)
            summary = summaries.get(key)
            if summary is None or (model.engines and not summary.usable):
                # The description of a node that can use it says more than that of one that cannot.
                known = summary
                summary = summaries[key] = pb.ModelSummary(description=model)
                if known is not None:
                    summary.node_names.extend(known.node_names)
            summary.node_names.append(state.name)
            summary.usable = summary.usable or (
                bool(model.engines) and not model.HasField("problem")
            )
            if key in loaded:
                summary.loaded_on.append(state.name)
            summary.is_default = default in (model.name, str(ModelKey(*key)))
    return list(summaries.values())
