"""llama.cpp with continuous batching, on llama-cpp-python's low-level API."""

from __future__ import annotations
