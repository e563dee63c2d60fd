"""The worker daemon: one machine, its hardware, its model files and its engines."""

from __future__ import annotations
