"""Functions of ggml, which llama-cpp-python does not name."""

from __future__ import annotations

from typing import Any

from llama_cpp import llama_cpp as api


def function(name: str, result: Any, *arguments: Any) -> Any:
    """Return a function with the types of its result and its arguments, as `ctypes` has them.

    It is looked up through llama.cpp's library: a wheel holds copies of ggml's under several names,
    and each copy that is loaded has a list of devices of its own.

    Raises `AttributeError` where there is none of that name.
    """
    found = api._lib[name]
    found.restype, found.argtypes = result, arguments
    return found
