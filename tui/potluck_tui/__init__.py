"""The `potluck` command and the terminal: viewers, which may vanish at any moment."""

from __future__ import annotations
