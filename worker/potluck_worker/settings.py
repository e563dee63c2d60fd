"""The worker's settings: table `[worker]` of `settings.toml`, or `POTLUCK_WORKER_…`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from potluck_proto.settings import host_name


class WorkerSettings(BaseSettings):
    """How one worker behaves."""

    model_config = SettingsConfigDict(env_prefix="POTLUCK_WORKER_", extra="forbid")

    name: str = Field(default_factory=host_name, min_length=1, max_length=40)
    """What people call this machine."""

    listen: str = ""
    """HOST:PORT for the scheduler of the pool that this machine joined; empty is port 7421 on all
    networks, or a free port where that is taken. Without a pool nobody is listened to."""

    model_paths: list[Path] = []
    """Model files, or folders of them, beside the home's own `models`."""

    context_length: int = Field(4096, ge=16)
    """Tokens for each conversation; a model trained for less gets what it was trained for."""

    slots: int = Field(4, ge=1, le=64)
    """Conversations at once for each model."""

    threads: int | None = Field(None, ge=1)
    """Threads for each engine; by default the physical cores."""

    memory_margin_bytes: int = Field(256 * 2**20, ge=0)
    """Memory that loading a model leaves free for everything else."""

    drain_seconds: float = Field(30, ge=0)
    """What answers get to end when their model is unloaded or the node drained."""

    idle_exit_seconds: float = Field(0, ge=0)
    """End after this long without a scheduler that watches; 0 is never."""

    tags: list[str] = []
    """Facts about this node that requests may ask for."""
