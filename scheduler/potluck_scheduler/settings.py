"""The scheduler's settings: table `[scheduler]` of `settings.toml`, or `POTLUCK_SCHEDULER_…`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SchedulerSettings(BaseSettings):
    """How one scheduler behaves."""

    model_config = SettingsConfigDict(env_prefix="POTLUCK_SCHEDULER_", extra="forbid")

    workers: list[str] = []
    """Addresses of workers that zeroconf does not find: HOST:PORT, ssh://USER@HOST[:PORT] or
    unix:/path. `potluck nodes add` adds to them."""

    listen: str = ""
    """HOST:PORT for paired clients, where there are any; empty is port 7420 on all networks, or a
    free port where that is taken."""

    join_listen: str = ""
    """HOST:PORT for machines that join, while an invitation is open; empty is port 7422 on all
    networks, or a free port where that is taken."""

    default_model: str = ""
    """For chats that name no model; empty takes the largest real one that fits."""

    idle_exit_seconds: float = Field(0, ge=0)
    """End after this long without a viewer or an answer under way; 0 is never."""
