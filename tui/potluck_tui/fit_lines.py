"""What a model takes on a machine, whether that fits, and what would: the words of `Fit`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.columns import table_lines
from potluck_tui.words import COLUMNS, size

DEVICE_CELLS = 18
HOST = "host"
"""The device id of main memory."""


def node_lines(node: pb.NodeFit) -> Iterator[str]:
    """Yield what is said of one node."""
    if node.HasField("problem"):
        yield f"{node.node_name}: {clean(node.problem.message)}"
        return
    fit = node.fit
    yield from _wrapped(f"{node.node_name}: {_name(fit.options)} {_verdict(fit)}", "")
    yield from _wrapped(_held(fit), "  ")
    header = ["DEVICE", "WEIGHTS", "KV CACHE", "COMPUTE", "MARGIN", "NEEDED", "FREE"]
    for line in table_lines(header, [_device_row(device) for device in fit.devices]):
        yield f"  {line}"
    if fit.note:
        yield from _wrapped(clean(fit.note), "  ")
    yield f"  {_largest(fit)}"
    if fit.alternatives:
        yield "  These fit instead, the best first:"
        for alternative in fit.alternatives:
            yield f"    {_difference(alternative, fit)}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=indent, subsequent_indent="  ")


def _name(options: types.LoadOptions) -> str:
    return clean(":".join(filter(None, (options.model, options.quantization))))


def _verdict(fit: types.Fit) -> str:
    if fit.fits:
        return "fits."
    unified_bytes = sum(_own_bytes(device) for device in fit.devices if device.unified)
    missing = []
    for device in fit.devices:
        # What a unified device holds is main memory as well.
        further_bytes = unified_bytes if device.device_id == HOST else 0
        needed_bytes = _own_bytes(device) + device.margin_bytes + further_bytes
        if needed_bytes > device.free_bytes:
            lack = size(needed_bytes - device.free_bytes)
            missing.append(f"{lack} of {clean(device.name)}")
    return f"does not fit: it lacks {' and '.join(missing)}."


def _held(fit: types.Fit) -> str:
    """Say how the model would be held."""
    options = fit.options
    parts = [
        f"context {options.context_length:,}, {options.slots} at once",
        f"KV cache {options.kv_type}",
    ]
    if options.HasField("flash_attention"):
        parts.append(f"flash attention {'on' if options.flash_attention else 'off'}")
    if fit.layers:
        parts.append(f"{options.gpu_layers} of {fit.layers} layers on cards")
    if options.host_experts:
        parts.append(f"the experts of {options.host_experts} in main memory")
    return f"{', '.join(parts)}; {_source(fit)}"


def _source(fit: types.Fit) -> str:
    """Say where the sizes come from."""
    if fit.measured:
        return "as measured before"
    # vLLM takes half a minute to say them.
    return "by what its files say" if fit.options.engine == "vllm" else "by the engine's dry run"


def _device_row(device: types.DeviceFit) -> list[str]:
    name = clean(device.name)
    sizes = (
        device.weights_bytes,
        device.kv_cache_bytes,
        device.compute_bytes + device.process_bytes,
        device.margin_bytes,
        _own_bytes(device) + device.margin_bytes,
        device.free_bytes,
    )
    short = name if len(name) <= DEVICE_CELLS else f"{name[: DEVICE_CELLS - 1]}…"
    return [short, *map(size, sizes)]


def _own_bytes(device: types.DeviceFit) -> int:
    return (
        device.weights_bytes + device.kv_cache_bytes + device.compute_bytes + device.process_bytes
    )


def _largest(fit: types.Fit) -> str:
    largest, trained = fit.largest_context_length, fit.training_context_length
    if not largest:
        return "Like this, no context fits, however short."
    if largest == trained:
        return f"Largest context that fits: {largest:,}, which is all that it was trained for."
    return f"Largest context that fits: {largest:,}; it was trained for {trained:,}."


def _difference(alternative: types.LoadOptions, fit: types.Fit) -> str:
    """Say in what an alternative differs from what was asked for."""
    asked = fit.options
    parts = []
    if alternative.quantization != asked.quantization:
        parts.append(_name(alternative))
    if alternative.context_length != asked.context_length:
        parts.append(f"context {alternative.context_length:,}")
    if alternative.slots != asked.slots:
        parts.append(f"{alternative.slots} at once")
    if alternative.kv_type != asked.kv_type:
        parts.append(f"KV cache {alternative.kv_type}")
    if alternative.gpu_layers != asked.gpu_layers:
        parts.append(f"{alternative.gpu_layers} of {fit.layers} layers on cards, which is slower")
    if alternative.host_experts != asked.host_experts:
        parts.append(f"the experts of {alternative.host_experts} layers in main memory")
    return ", ".join(parts)
