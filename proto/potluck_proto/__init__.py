"""What every process of a pool must agree on: the contract, errors, ids, paths and records."""

from __future__ import annotations

__version__ = "0.1.0"

PROTOCOL_VERSION = 1
"""Raised when a process of the old version could misunderstand one of the new."""
