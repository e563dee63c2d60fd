"""All that is known of one model, as names and values for a person: for a command and a screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.words import count, size

COMMERCIAL_USE = {
    types.COMMERCIAL_USE_UNSPECIFIED: "not known",
    types.COMMERCIAL_USE_YES: "yes",
    types.COMMERCIAL_USE_CONDITIONS: "with conditions",
    types.COMMERCIAL_USE_NO: "no",
}
"""The verdicts on a licence, in words."""

_TUNING = {
    types.TUNING_UNSPECIFIED: "not known",
    types.TUNING_BASE: "base model, which goes on with a text and was not tuned to answer",
    types.TUNING_TUNED: "tuned to answer",
}

_SHOWN_TYPES = 3
"""Types of tensors that are named; the others are few bytes."""


class Fact(NamedTuple):
    """One property of a model."""

    name: str
    value: str
    source: str = ""
    """Where it is from, where that matters."""


def facts(detail: types.ModelDetail) -> list[Fact]:
    """Return what is known of a model, cleaned for a terminal; what is not known is left out."""
    return [
        Fact(fact.name, clean(fact.value), clean(fact.source))
        for fact in _facts(detail)
        if fact.value
    ]


def _facts(detail: types.ModelDetail) -> Iterator[Fact]:
    model = detail.description
    if model.HasField("problem"):
        yield Fact("problem", model.problem.message)
    if model.architecture:
        yield from _what_its_files_say(detail)
    yield Fact("runs on", ", ".join(model.engines))
    yield Fact("size", size(model.file_bytes) if model.file_bytes else "")
    for file in detail.hashes:
        yield Fact("sha256", file.sha256, file.name if len(detail.hashes) > 1 else "")
    yield Fact("file", detail.path)
    yield Fact("belongs to", model.owner)


def _what_its_files_say(detail: types.ModelDetail) -> Iterator[Fact]:
    model = detail.description
    yield Fact("title", model.title if model.title != model.name else "")
    yield Fact("made by", detail.organization)
    yield Fact("architecture", model.architecture)
    yield Fact("made from", ", ".join(detail.base_models))
    yield Fact("tuning", _TUNING[model.tuning], detail.tuning_source)
    yield Fact("parameters", _parameters(detail))
    yield Fact("quantization", _quantization(detail))
    trained = model.training_context_length
    yield Fact("context", f"{trained:,} tokens as trained{_here(model)}" if trained else "")
    yield Fact("vocabulary", f"{model.vocabulary_size:,} tokens" if model.vocabulary_size else "")
    yield Fact("chat template", _template(detail))
    yield Fact("reads", _reads(detail))
    yield from _licence_facts(detail.licence)


def _parameters(detail: types.ModelDetail) -> str:
    whole, active = detail.description.parameter_count, detail.active_parameter_count
    if not whole:
        return ""
    if active and active < whole:
        return f"{count(whole)}, of which {count(active)} take part in each token"
    return count(whole)


def _quantization(detail: types.ModelDetail) -> str:
    model = detail.description
    if not model.bits_per_weight:
        return model.quantization
    parts = [f"{model.quantization}, {model.bits_per_weight:.2f} bits a weight as measured"]
    whole = sum(kind.size_bytes for kind in detail.tensor_types)
    if len(detail.tensor_types) > 1 and whole:
        shares = [f"{k.name} {k.size_bytes / whole:.0%}" for k in detail.tensor_types]
        parts.append(f"({', '.join(shares[:_SHOWN_TYPES])})")
    return " ".join(parts)


def _here(model: types.ModelDescription) -> str:
    return f"; {model.context_length:,} as it is loaded" if model.context_length else ""


def _template(detail: types.ModelDetail) -> str:
    if not detail.description.has_chat_template:
        return "none"
    lacking = [name for name in ("system", "tools") if name not in detail.template_supports]
    there = ", ".join(detail.template_supports) or "nothing beside questions and answers"
    return f"with {there}" + (f"; without {', '.join(lacking)}" if lacking else "")


def _reads(detail: types.ModelDetail) -> str:
    others = [name for name in detail.modalities if name != "text"]
    if detail.description.embeds_only:
        return "text, and makes a vector of it"
    if others:
        return f"text; made for {', '.join(others)} too, which Potluck does not give it"
    return "text" if detail.modalities else ""


def _licence_facts(licence: types.Licence) -> Iterator[Fact]:
    named = " ".join(dict.fromkeys(filter(None, (licence.id, licence.name))))
    yield Fact("licence", named or "not named", licence.link)
    verdict = COMMERCIAL_USE[licence.commercial_use]
    asks = f": {licence.terms}" if licence.terms else ""
    yield Fact("commercial use", f"{verdict}{asks}", licence.source)
