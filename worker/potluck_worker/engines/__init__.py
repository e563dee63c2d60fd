"""Engines, one implementation a module; each is imported only inside its own child."""

from __future__ import annotations
