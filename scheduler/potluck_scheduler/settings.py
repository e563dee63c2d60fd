"""The scheduler's settings: table `[scheduler]` of `settings.toml`, or `POTLUCK_SCHEDULER_…`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SchedulerSettings(BaseSettings):
    """How one scheduler behaves."""

    model_config = SettingsConfigDict(env_prefix="POTLUCK_SCHEDULER_", extra="forbid")

    workers: list[str] = []
    """Addresses of workers that zeroconf does not find: HOST:PORT or unix:/path."""

    insecure_lan: bool = False
    """Speak to workers on other machines without encryption, and look for them on the network."""

    cluster: str = ""
    """The pool whose workers are taken in; empty is the pool of this home."""

    default_model: str = ""
    """For chats that name no model; empty takes the largest real one that fits."""

    idle_exit_seconds: float = Field(0, ge=0)
    """End after this long without a viewer or an answer under way; 0 is never."""
