"""From what a person typed to the models that it may mean."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from potluck_proto.errors import UnknownModel
from potluck_scheduler.core.model import Model, ModelKey, Node

SHOWN = 6
"""Names that an error lists."""


def resolve(typed: str, nodes: Iterable[Node]) -> list[ModelKey]:
    """Return the models that a typed name means, the best first.

    `name:quantization` and a whole file name mean one; a name alone means all its quantizations,
    those with more bits per weight first. Case does not matter.

    Raises:
        UnknownModel: No node has one; the message lists what is near and what there is.
    """
    nodes = list(nodes)
    known = {model.key: model for node in nodes for model in node.models}
    name, _, quantization = typed.partition(":")
    found = [key for key in known if _means(key, name.lower(), quantization.lower())]
    if not found:
        raise UnknownModel(_unknown(typed, list(known.values())), model=typed)
    return sorted(found, key=lambda key: -known[key].bits_per_weight)


def default_model(nodes: Iterable[Node]) -> str:
    """Return the model for those who name none, empty where there is none at all.

    One that can chat here before one that cannot, one that fits before one that does not, a real
    one before the starter, one in memory before others, then the largest.
    """
    best: tuple[tuple[bool, bool, bool, bool, int, float], str] | None = None
    for node in nodes:
        for model in node.models:
            chats = model.problem is None and bool(model.engines) and not model.embeds_only
            loaded = node.loaded_model(model.key) is not None
            fits = loaded or model.memory_needed_bytes <= node.memory_free_bytes
            size = (model.parameter_count, model.bits_per_weight)
            rank = (chats, fits, not model.starter, loaded, *size)
            if best is None or rank > best[0]:
                best = (rank, str(model.key))
    return best[1] if best else ""


def _means(key: ModelKey, name: str, quantization: str) -> bool:
    mine, bits = key.name.lower(), key.quantization.lower()
    if quantization and quantization != bits:
        return False
    return name == mine or (bool(bits) and name in {f"{mine}{mark}{bits}" for mark in "-._"})


def _unknown(typed: str, models: list[Model]) -> str:
    names = sorted({str(model.key) for model in models})
    if not names:
        return (
            f"No node has a model {typed!r}, nor any other. Put a GGUF file into a models folder."
        )
    near = difflib.get_close_matches(typed, names, n=3, cutoff=0.5)
    if near:
        return f"No node has a model {typed!r}. Did you mean {' or '.join(near)}?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"No node has a model {typed!r}. There are: {', '.join(names[:SHOWN])}{more}."
