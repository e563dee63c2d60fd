"""The scheduler daemon: the pool, the chats, and every answer under way."""

from __future__ import annotations
