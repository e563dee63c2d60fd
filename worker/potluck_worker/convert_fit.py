"""Between the contract's messages about memory and the worker's dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.convert import accelerator_of
from potluck_worker.engines.base import KvType
from potluck_worker.engines.sizing import HOST, Options
from potluck_worker.fitting import Verdict, Way
from potluck_worker.pool import MemoryPool
from potluck_worker.stored_model import StoredModel

KV_TYPES: dict[str, KvType | None] = {"": None, "f16": "f16", "q8_0": "q8_0", "q4_0": "q4_0"}
SLOTS_LIMIT = 64


def options_of(
    asked: types.LoadOptions, model: StoredModel, adapter: Callable[[StoredModel, str], Path]
) -> Options:
    """Return how a model is asked to be held.

    Args:
        asked: What the caller says; a 0 or nothing leaves a value open.
        model: Which.
        adapter: Finds a LoRA adapter for a model by its name.

    Raises:
        BadRequest: It cannot be held so; the message says how it could be.
    """
    if asked.kv_type not in KV_TYPES:
        there = ", ".join(filter(None, KV_TYPES))
        raise BadRequest(f"No KV cache has the type {asked.kv_type!r}; there are {there}.")
    options = Options(
        context_length=asked.context_length or None,
        slots=asked.slots or None,
        kv_type=KV_TYPES[asked.kv_type],
        gpu_layers=asked.gpu_layers if asked.HasField("gpu_layers") else None,
        host_experts=asked.host_experts if asked.HasField("host_experts") else None,
        flash_attention=asked.flash_attention if asked.HasField("flash_attention") else None,
        lora_adapters=tuple(str(adapter(model, name)) for name in asked.lora_adapters),
    )
    if asked.engine not in ("", model.engine):
        raise BadRequest(f"{model.name} runs on {model.engine}, not on {asked.engine}.")
    _require_possible(options, model)
    return options


def _require_possible(options: Options, model: StoredModel) -> None:
    """Raise `BadRequest` where no node could hold a model so."""
    assert model.inspection is not None
    longest = model.inspection.training_context_length
    if options.context_length is not None and options.context_length > longest:
        raise BadRequest(
            f"{model.name} cannot have a context of {options.context_length:,} tokens; it was "
            f"trained for {longest:,}."
        )
    if options.slots is not None and options.slots > SLOTS_LIMIT:
        raise BadRequest(
            f"{model.name} cannot answer {options.slots:,} at once; {SLOTS_LIMIT} is the most."
        )
    if options.flash_attention is False and options.kv_type not in (None, "f16"):
        raise BadRequest(
            f"A KV cache of {options.kv_type} needs flash attention. Leave it on, or take f16."
        )


def fit_to_proto(verdict: Verdict, pool: MemoryPool) -> types.Fit:
    """Return a verdict as it goes to the scheduler."""
    estimate = verdict.asked.estimate
    inspection = verdict.asked.model.inspection
    assert inspection is not None
    cards = {card.id: card for card in pool.cards.known}
    fit = types.Fit(
        options=_options(verdict.asked),
        fits=verdict.fits,
        largest_context_length=verdict.largest_context_length,
        alternatives=map(_options, verdict.instead),
        training_context_length=inspection.training_context_length,
        layers=estimate.layers,
        measured=verdict.measured,
        note=verdict.note,
    )
    for device_id, free_bytes in verdict.room.free_bytes.items():
        share, card = estimate.on(device_id), cards.get(device_id)
        margin_bytes = pool.margin_bytes(device_id)
        fit.devices.add(
            device_id=device_id,
            weights_bytes=share.weights_bytes,
            kv_cache_bytes=share.kv_cache_bytes,
            compute_bytes=share.compute_bytes,
            process_bytes=share.process_bytes,
            margin_bytes=margin_bytes,
            free_bytes=free_bytes + margin_bytes,
            name=pool.name(device_id),
            accelerator=accelerator_of(card.accelerator if card else "cpu"),
            total_bytes=pool.total_bytes(device_id),
            unified=device_id != HOST and bool(card and card.unified),
        )
    return fit


def _options(way: Way) -> types.LoadOptions:
    options = way.estimate.options
    return types.LoadOptions(
        model=way.model.name,
        quantization=way.model.quantization,
        context_length=options.context_length or 0,
        slots=options.slots or 0,
        kv_type=options.kv_type or "",
        gpu_layers=options.gpu_layers,
        host_experts=options.host_experts,
        flash_attention=options.flash_attention,
        lora_adapters=[Path(path).name for path in options.lora_adapters],
        engine=way.model.engine,
    )
