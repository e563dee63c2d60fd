"""What the files of a model say of it: one description, whatever their format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Feature = Literal["system", "tools", "reasoning"]
"""What a chat template may have a place for."""

Tuning = Literal["base", "tuned", ""]
"""Whether a model only goes on with a text or was tuned to follow instructions; empty where its
files do not say it."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a model comes from."""

    organization: str = ""
    base_models: Sequence[str] = ()
    """What it was made from, the nearest first, as `organization/name` where that is known."""
    tuning: Tuning = ""
    tuning_source: str = ""
    """Which of its words say so."""


@dataclass(frozen=True, slots=True)
class LicenceWords:
    """What the files say of the licence; `licences.py` knows what follows from it."""

    id: str = ""
    """As published models name it, such as `apache-2.0` or `other`."""
    name: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model's files say of it.

    Made by `python -m potluck_worker.inspect_host` in a child of its own, since files are untrusted
    and an engine may abort on them.
    """

    architecture: str
    parameter_count: int
    active_parameter_count: int
    """Weights that take part in each token; fewer than all in a mixture of experts."""
    quantization: str
    """The file's own scheme, for example `Q4_K_M`."""
    bits_per_weight: float
    """Measured over all tensors."""
    bytes_by_type: Mapping[str, int]
    """How the tensors are stored, for example `Q4_K`."""
    training_context_length: int
    vocabulary_size: int
    has_chat_template: bool
    template_supports: Sequence[Feature]
    embeds_only: bool
    """Whether it embeds texts and cannot chat."""
    modalities: Sequence[str]
    """What it was made to read; Potluck gives it text alone."""
    title: str
    lineage: Lineage
    licence: LicenceWords
    tokenizer_sha256: str
    """Over the vocabulary: equal for two files whose token ids mean the same."""
    template_sha256: str
    weights_sha256: str
    """Over samples (`weight_samples.py`): equal for files with the same weights."""
    classes: Sequence[str] = ()
    """What vLLM would load it as, where its files say it."""
