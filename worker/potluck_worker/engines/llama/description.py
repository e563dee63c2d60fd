"""What a GGUF file says of its model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from llama_cpp import llama_cpp as api

from potluck_worker.engines.inspection import Inspection, LicenceWords, Lineage
from potluck_worker.engines.lineage import lineage
from potluck_worker.engines.llama.header import Header, read_header
from potluck_worker.engines.llama.library import Model
from potluck_worker.engines.llama.vocabulary import Vocabulary
from potluck_worker.engines.template_features import features
from potluck_worker.engines.weight_samples import hash_samples
from potluck_worker.splits import parts_of

SCHEMES = {"all F32": "F32", "Q2_K - Medium": "Q2_K", "IQ3_S mix - 3.66 bpw": "IQ3_M"}
"""What people call the file types that the library calls otherwise."""


def inspect(path: Path, model: Model) -> Inspection:
    """Return what a file says of its model, as all engines have it.

    Args:
        path: The file, or the first part of a split one.
        model: The same, open.
    """
    metadata, header = model.metadata(), read_header(path)
    vocabulary = Vocabulary(model.vocabulary)
    weights_bytes = int(api.llama_model_size(model.pointer))
    parameters = int(api.llama_model_n_params(model.pointer))
    template = metadata.get("tokenizer.chat_template", "")
    tool_use = metadata.get("tokenizer.chat_template.tool_use", "")
    file_type = api.llama_ftype_name(api.llama_model_ftype(model.pointer)) or b""
    return Inspection(
        architecture=metadata.get("general.architecture", ""),
        parameter_count=parameters,
        active_parameter_count=parameters - round(header.expert_weights * model.idle_experts),
        quantization=_scheme(file_type.decode()),
        bits_per_weight=8 * weights_bytes / max(1, parameters),
        bytes_by_type=header.bytes_by_type,
        training_context_length=model.training_context_length,
        vocabulary_size=vocabulary.size,
        has_chat_template=bool(template),
        template_supports=features(template, tool_use),
        embeds_only=model.embeds_only,
        modalities=("text",),
        title=metadata.get("general.name", ""),
        lineage=_lineage(path, metadata, header),
        licence=LicenceWords(
            metadata.get("general.license", ""),
            metadata.get("general.license.name", ""),
            metadata.get("general.license.link", ""),
        ),
        tokenizer_sha256=vocabulary.sha256(),
        template_sha256=hashlib.sha256(template.encode()).hexdigest(),
        weights_sha256=hash_samples(parts_of(path)),
    )


def _lineage(path: Path, metadata: Mapping[str, str], header: Header) -> Lineage:
    return lineage(
        organization=metadata.get("general.organization", ""),
        base_models=_base_models(metadata),
        finetune=metadata.get("general.finetune", ""),
        title=metadata.get("general.name", ""),
        tags=header.tags,
        file_name=path.stem,
        has_chat_template=bool(metadata.get("tokenizer.chat_template", "")),
    )


def _base_models(metadata: Mapping[str, str]) -> Iterator[str]:
    """Yield what a GGUF file says that its model was made from."""
    count = metadata.get("general.base_model.count", "0")
    for number in range(min(int(count), 20) if count.isdecimal() else 0):
        key = f"general.base_model.{number}"
        place = metadata.get(f"{key}.repo_url", "").rstrip("/").split("/")
        maker = metadata.get(f"{key}.organization", "").replace(" ", "-")
        names = place[-2:] if len(place) >= 5 else (maker, metadata.get(f"{key}.name", ""))
        yield "/".join(filter(None, names))


def _scheme(file_type: str) -> str:
    """Return the name that people use, such as Q4_K_M, of llama.cpp's name for a file type.

    The library says `Q4_K - Medium` and adds `(guessed)` where the file does not say.
    """
    name = file_type.removeprefix("(guessed)").removesuffix("(guessed)").strip()
    if name in SCHEMES:
        return SCHEMES[name]
    for words, letter in ((" - Small", "_S"), (" - Medium", "_M"), (" - Large", "_L")):
        name = name.replace(words, letter)
    return name.split(" ")[0]
