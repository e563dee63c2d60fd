"""The llama.cpp engine."""

from __future__ import annotations

import importlib

from potluck_proto.errors import EngineMissing
from potluck_worker.availability import llama_availability


def require_library() -> None:
    """Load llama.cpp. Raises `EngineMissing` where it is not installed or cannot be loaded."""
    if advice := llama_availability().advice:
        raise EngineMissing(advice)
    try:
        importlib.import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineMissing(
            f"llama.cpp is installed here but cannot be loaded: {error}. Install it again: "
            "pip install --force-reinstall --no-cache-dir 'potluck[llama]'."
        ) from error
