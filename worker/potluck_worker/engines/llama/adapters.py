"""LoRA adapters, which change what a model computes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as api

from potluck_proto.errors import ModelFileError, UnsupportedModel
from potluck_worker.engines.llama.library import Model, check_file


def apply_adapters(model: Model, context: Any, paths: Sequence[Path]) -> None:
    """Add LoRA adapters to what a context computes, each whole.

    Raises:
        ModelFileError: One is damaged, or no adapter.
        UnsupportedModel: One was made for another model.
    """
    if not paths:
        return
    adapters = [_adapter(model, path) for path in paths]
    count = len(adapters)
    pointers = (api.llama_adapter_lora_p_ctypes * count)(*adapters)
    scales = (ctypes.c_float * count)(*[1.0] * count)
    api.llama_set_adapters_lora(context, pointers, count, scales)


def _adapter(model: Model, path: Path) -> Any:
    """Return an adapter, which lives as long as its model."""
    check_file(path)
    model.log.listen_anew()
    adapter = api.llama_adapter_lora_init(model.pointer, os.fsencode(path))
    if not adapter:
        raise _adapter_error(model, path)
    if api.llama_adapter_get_alora_n_invocation_tokens(adapter):
        raise UnsupportedModel(
            f"{path.name} is an adapter that a part of the prompt turns on, which Potluck does not "
            "do. Use a plain LoRA adapter."
        )
    return adapter


def _adapter_error(model: Model, path: Path) -> ModelFileError | UnsupportedModel:
    """Return the library's last words on an adapter as an error."""
    said, reason = model.log.said, model.log.reason
    if (kind := said.get("type", "model")) != "adapter":
        return ModelFileError(f"{path.name} is no LoRA adapter: the file says that it is a {kind}.")
    architecture = said.get("architecture", model.architecture)
    if architecture != model.architecture:
        return UnsupportedModel(
            f"{path.name} is an adapter for models of the architecture {architecture!r}; "
            f"{model.name} is {model.architecture!r}. Use it with the model that it was made for."
        )
    if "wrong base model" in reason:
        return UnsupportedModel(
            f"{path.name} is an adapter for another {architecture!r} model than {model.name}: "
            f"{reason.split(' (hint')[0]}. Use it with the model that it was made for."
        )
    return ModelFileError(f"{path.name} cannot be applied to {model.name}: {reason}.")
