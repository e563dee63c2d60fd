"""What a property of a model means on this pool, with the numbers of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potluck_tui.knowledge.quality import WHOLE, quality
from potluck_tui.model_facts import Fact
from potluck_tui.pool import ModelView, NodeView, PoolView
from potluck_tui.words import context, count, size

WHOLE_BYTES = 2
"""Of a weight as models are published."""

WORDS_PER_TOKEN = 0.75
"""Of English, about."""


def with_hardware(facts: Sequence[Fact], model: ModelView, pool: PoolView) -> tuple[Fact, ...]:
    """Return facts, and after where the model can run the machines that have it."""
    machines = ", ".join(map(_machine, _having(model, pool)))
    names = [fact.name for fact in facts]
    at = names.index("runs on") + 1 if "runs on" in names else len(names)
    hardware = [Fact("hardware", machines)] if machines else []
    return (*facts[:at], *hardware, *facts[at:])


def meaning(name: str, model: ModelView, pool: PoolView) -> str:
    """Return what a property means here, in a sentence or two; empty where that is nothing.

    Args:
        name: As `model_facts` calls it.
        model: Whose it is.
        pool: Where it would run.
    """
    say = _MEANINGS.get(name)
    return say(model, pool) if say is not None else ""


def room(model: ModelView, pool: PoolView) -> str:
    """Return where a model would run now, with which context, or what it lacks."""
    if not model.usable:
        return model.problem or "No machine can run it."
    held = f" with {context(model.context_length)} context" if model.context_length else ""
    if model.loaded_on:
        return f"In memory on {' and '.join(model.loaded_on)}{held}."
    free = {node.name: _free_bytes(node) for node in _having(model, pool)}
    roomy = [name for name, free_bytes in free.items() if free_bytes >= model.memory_needed_bytes]
    if roomy:
        return f"Fits {' and '.join(roomy)}{held}."
    places = " and ".join(f"{name} has {size(bytes_)} free" for name, bytes_ in free.items())
    return f"Needs {size(model.memory_needed_bytes)}{held}; {places or 'no machine is ready'}."


def _having(model: ModelView, pool: PoolView) -> list[NodeView]:
    return [node for node in pool.nodes if node.name in model.node_names]


def _free_bytes(node: NodeView) -> int:
    return node.main_device.free_bytes if node.main_device is not None else 0


def _machine(node: NodeView) -> str:
    device = node.main_device
    if device is None:
        return node.name
    return f"{node.name} ({device.accelerator}, {size(device.total_bytes)})"


def _parameters(model: ModelView, pool: PoolView) -> str:
    if not model.parameter_count:
        return ""
    whole = size(model.parameter_count * WHOLE_BYTES)
    devices = ((node.main_device, node.name) for node in pool.nodes)
    known = [(device.total_bytes, name) for device, name in devices if device is not None]
    words = f"At 16 bits {count(model.parameter_count)} of them take {whole}."
    if known:
        largest, name = max(known)
        words += f" The largest memory here is {name}'s, {size(largest)}."
    return words


def _quantization(model: ModelView, pool: PoolView) -> str:
    bits = f"{model.bits_per_weight:.1f} bits a weight: " if model.bits_per_weight else ""
    taken = size(model.file_bytes)
    if model.parameter_count and model.quantization.upper() not in WHOLE:
        taken += f" instead of {size(model.parameter_count * WHOLE_BYTES)}"
    known = quality(model.quantization)
    cost = f", perplexity {known.cost} in an 8B model" if known.cost else ""
    return f"{bits}{taken}. Quality against 16 bits: {known.words}{cost}. {room(model, pool)}"


def _context(model: ModelView, _pool: PoolView) -> str:
    tokens = model.context_length
    if not tokens:
        return ""
    words = f"A conversation here may have {tokens:,} tokens, about "
    words += f"{tokens * WORDS_PER_TOKEN:,.0f} English words."
    if tokens < model.training_context_length:
        words += " `context_length` in the settings asks for more, which needs more memory."
    return words


def _runs_on(model: ModelView, _pool: PoolView) -> str:
    if not model.usable:
        return model.problem or "No machine here can run it."
    return f"{' and '.join(model.node_names)} can run it."


def _tuning(model: ModelView, _pool: PoolView) -> str:
    if model.goes_on:
        return "It cannot chat as it is: `potluck template` gives it a prompt format by name."
    if model.is_base:
        return "It goes on with what you write; to have questions answered, take a tuned one."
    return "You can chat with it as it is." if model.has_chat_template else ""


def _template(model: ModelView, _pool: PoolView) -> str:
    if model.has_chat_template:
        return "Potluck renders the chat with it: you just type."
    return "`potluck template` gives it a prompt format by name, such as chatml or vicuna."


def _commercial_use(model: ModelView, _pool: PoolView) -> str:
    match model.commercial_use:
        case "yes":
            return "You may use it at work too."
        case "with conditions":
            return "Read its terms before you use it at work."
        case _:
            return "Keep it for private use, unless its maker tells you otherwise."


def _size(model: ModelView, pool: PoolView) -> str:
    needs = size(model.memory_needed_bytes) if model.memory_needed_bytes else ""
    words = f"{size(model.file_bytes)} on the disk of {' and '.join(model.node_names)}"
    return f"{words}; in memory {needs}. {room(model, pool)}" if needs else f"{words}."


def _hardware(model: ModelView, pool: PoolView) -> str:
    free = [f"{size(_free_bytes(node))} free on {node.name}" for node in _having(model, pool)]
    return f"{room(model, pool)} Now {', '.join(free)}." if free else room(model, pool)


_MEANINGS: dict[str, Callable[[ModelView, PoolView], str]] = {
    "parameters": _parameters,
    "quantization": _quantization,
    "context": _context,
    "architecture": _runs_on,
    "runs on": _runs_on,
    "tuning": _tuning,
    "chat template": _template,
    "commercial use": _commercial_use,
    "size": _size,
    "hardware": _hardware,
}
