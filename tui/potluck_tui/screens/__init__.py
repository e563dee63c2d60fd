"""The places of the terminal: chat, models, nodes, help, and small questions."""

from __future__ import annotations
