"""Step 1 of the policy: can a node answer a request at all, however long one waits?

Each check says in one clause why not, or `None`. What it takes is data: which engine runs which
format. Which architectures an engine runs, and what a licence allows, its node knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from potluck_proto.errors import Draining, EngineMissing, PotluckError, UnsupportedModel
from potluck_scheduler.core.model import Model, Node, Request

ENGINES_OF_FORMAT: Mapping[str, str] = {"gguf": "llama", "safetensors": "vllm", "fake": "fake"}
"""The engine that runs a format; no engine loads a pickle."""

ENGINE_NAMES: Mapping[str, str] = {"llama": "llama.cpp", "vllm": "vLLM", "fake": "the fake engine"}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a node cannot answer."""

    reason: str
    """One clause."""
    error: PotluckError | None = None
    """What a refusal for this alone would be; `None` where it is a matter of the request."""


def obstacle(request: Request, node: Node, model: Model | None) -> Obstacle | None:
    """Say why a node cannot answer a request, `None` where it can."""
    if model is None:
        return Obstacle("does not have the file")
    if model.problem is not None:
        return Obstacle(model.problem.message, model.problem)
    if not model.engines:
        error = missing_engine(node, model)
        return Obstacle(error.message, error)
    if reason := mismatch(request, node, model):
        return Obstacle(reason)
    if node.draining:
        error = Draining(f"{node.name} is being drained and takes no new work.")
        return Obstacle("is being drained", error)
    return None


def missing_engine(node: Node, model: Model) -> PotluckError:
    """Return what is wrong with a model that no engine of its node runs."""
    needed = ENGINES_OF_FORMAT.get(model.format, "")
    engine = ENGINE_NAMES.get(needed, needed)
    if not needed:
        return UnsupportedModel(f"{model.key} is in a format that no engine reads.")
    what = f"{model.key} ({model.architecture or 'unknown architecture'}, {model.format})"
    return EngineMissing(
        f"{what} needs {engine}, and {node.name} has it not. "
        f"Install it there: pip install 'potluck[{needed}]'."
    )


def mismatch(request: Request, node: Node, model: Model) -> str | None:
    """Say which wish of a request a node or its model does not meet."""
    if request.nodes and node.name not in request.nodes and node.node_id not in request.nodes:
        return f"is not {' or '.join(request.nodes)}"
    for tag in request.tags:
        if reason := _lacks(tag, node, model):
            return reason
    if 0 < model.context_length < request.context_tokens:
        return f"takes a context of {model.context_length:,} tokens, not {request.context_tokens:,}"
    return None


def _lacks(tag: str, node: Node, model: Model) -> str | None:
    """Say in what a node lacks a tag."""
    kind, _, value = tag.partition(":")
    if kind == "node":
        return None if value in (node.name, node.node_id) else f"is not {value}"
    if tag in node.tags:
        return None
    if kind in {"licence", "license"}:
        licence = model.licence.lower()
        if licence == value.lower() or (value == "commercial" and model.commercial):
            return None
        return f"has it under the licence {licence or 'that its file does not name'}"
    return f"lacks the tag {tag}"
