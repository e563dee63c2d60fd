"""From the store's models to the contract's messages about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from potluck_proto.v1 import types_pb2 as types
from potluck_worker.engines.formats import BASE_NOTE, FORMATS
from potluck_worker.engines.inspection import Inspection
from potluck_worker.library.hashes import FileHash
from potluck_worker.library.licences import Licence, licence
from potluck_worker.library.pulls import Pull
from potluck_worker.library.remote import Repository, Variant, quantizations
from potluck_worker.stored_model import StoredModel

FILE_FORMATS = {"vllm": types.MODEL_FORMAT_SAFETENSORS}
"""Of the models that an engine runs, where it is not GGUF."""

HUB_FORMATS = {
    "gguf": types.MODEL_FORMAT_GGUF,
    "safetensors": types.MODEL_FORMAT_SAFETENSORS,
}

TUNINGS = {"base": types.TUNING_BASE, "tuned": types.TUNING_TUNED, "": types.TUNING_UNSPECIFIED}

COMMERCIAL_USES = {
    "yes": types.COMMERCIAL_USE_YES,
    "conditions": types.COMMERCIAL_USE_CONDITIONS,
    "no": types.COMMERCIAL_USE_NO,
    "unknown": types.COMMERCIAL_USE_UNSPECIFIED,
}


def describe(model: StoredModel) -> types.ModelDescription:
    """Return what schedulers hear of a model twice a second."""
    description = types.ModelDescription(
        name=model.name,
        quantization=model.quantization,
        format=FILE_FORMATS.get(model.engine, types.MODEL_FORMAT_GGUF),
        file_bytes=model.file_bytes,
        memory_needed_bytes=model.memory_needed_bytes,
        starter=model.starter,
        owner=model.borrowed.owner if model.borrowed else "",
    )
    if model.problem is not None:
        description.problem.CopyFrom(model.problem.to_proto())
    if (found := model.inspection) is not None:
        if model.problem is None:
            description.engines.append(model.engine)
        _add_inspection(description, found)
    if model.plan is not None:
        options = model.plan.estimate.options
        description.context_length = options.context_length or 0
        description.slots = options.slots or 0
        description.note = " ".join(filter(None, (model.plan.note, _base_note(model))))
    if model.prompt_format:
        source = FORMATS[model.prompt_format]
        description.has_chat_template = True
        description.template_sha256 = hashlib.sha256(source.encode()).hexdigest()
    return description


def _base_note(model: StoredModel) -> str:
    """Return what to say of a base model to who would chat with it."""
    found = model.inspection
    goes_on = found and found.lineage.tuning == "base" and not found.embeds_only
    if not found or not goes_on or found.has_chat_template or model.prompt_format:
        return ""
    return BASE_NOTE.format(name=model.name)


def _add_inspection(description: types.ModelDescription, found: Inspection) -> None:
    description.architecture = found.architecture
    description.parameter_count = found.parameter_count
    description.bits_per_weight = found.bits_per_weight
    description.training_context_length = found.training_context_length
    description.vocabulary_size = found.vocabulary_size
    description.has_chat_template = found.has_chat_template
    description.embeds_only = found.embeds_only
    description.title = found.title
    description.license = found.licence.name or found.licence.id
    description.base_model = next(iter(found.lineage.base_models), "")
    description.tokenizer_sha256 = found.tokenizer_sha256
    description.template_sha256 = found.template_sha256
    description.weights_sha256 = found.weights_sha256
    description.tuning = TUNINGS[found.lineage.tuning]
    description.commercial_use = COMMERCIAL_USES[licence(found.licence).commercial_use]


def detail(model: StoredModel, hashes: Sequence[FileHash]) -> types.ModelDetail:
    """Return all that is known of a model.

    Args:
        model: Which.
        hashes: Of its files, as far as they are known.
    """
    described = types.ModelDetail(description=describe(model), path=str(model.path))
    for found in hashes:
        described.hashes.add(name=found.name, sha256=found.sha256, size_bytes=found.size_bytes)
    if (inspection := model.inspection) is None:
        return described
    described.active_parameter_count = inspection.active_parameter_count
    for name, size_bytes in inspection.bytes_by_type.items():
        described.tensor_types.add(name=name, size_bytes=size_bytes)
    described.organization = inspection.lineage.organization
    described.base_models.extend(inspection.lineage.base_models)
    described.tuning_source = inspection.lineage.tuning_source
    described.template_supports.extend(inspection.template_supports)
    described.modalities.extend(inspection.modalities)
    described.licence.CopyFrom(_licence(licence(inspection.licence)))
    return described


def download(pull: Pull) -> types.Download:
    """Return how far a pull is."""
    progress = pull.progress
    message = types.Download(
        repository=pull.repository,
        variant=pull.wanted or progress.variant,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
        bytes_per_second=progress.bytes_per_second,
    )
    if progress.bytes_per_second:
        left_bytes = progress.total_bytes - progress.done_bytes
        message.seconds_left = left_bytes / progress.bytes_per_second
    return message


def hub_repository(repository: Repository) -> types.HubRepository:
    """Return a repository as a viewer sees it."""
    return types.HubRepository(
        name=repository.name,
        parameter_count=repository.parameter_count,
        downloads=repository.downloads,
        likes=repository.likes,
        gated=repository.gated,
        licence=_licence(licence(repository.licence)),
        base_models=repository.base_models,
        format=HUB_FORMATS[repository.format],
        architecture=repository.architecture,
        training_context_length=repository.training_context_length,
        memory_needed_bytes=repository.usual_memory_bytes,
        quantizations=quantizations(repository),
    )


def hub_variant(variant: Variant, parameter_count: int, *, present: bool) -> types.HubVariant:
    """Return what can be fetched."""
    return types.HubVariant(
        name=variant.name,
        format=HUB_FORMATS[variant.format],
        size_bytes=variant.size_bytes,
        files=[
            types.FileHash(name=file.name, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in variant.files
        ],
        bits_per_weight=8 * variant.size_bytes / parameter_count if parameter_count else 0,
        memory_needed_bytes=variant.probable_memory_bytes,
        present=present,
    )


def _licence(known: Licence) -> types.Licence:
    return types.Licence(
        id=known.words.id,
        name=known.words.name,
        link=known.link,
        commercial_use=COMMERCIAL_USES[known.commercial_use],
        terms=known.terms,
        source=known.source,
    )
