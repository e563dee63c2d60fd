"""The scheduler's settings: table `[scheduler]` of `settings.toml`, or `POTLUCK_SCHEDULER_…`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from potluck_scheduler.core.state import Limits


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

    move: bool = True
    """Whether an answer goes on at another node when its node is lost; else it ends there."""

    queue_limit: int = Field(1_000, ge=0)
    """Prompts that may wait for a place; further ones are refused."""

    return_seconds: float = Field(60.0, ge=0)
    """How long an answer that was interrupted waits for a machine that can go on with it."""

    patience_seconds: float = Field(30.0, ge=0)
    """How long a model waits before it gets the memory of one that is busy all the time."""

    longest_backoff_seconds: float = Field(30.0, ge=0)
    """What a machine that is lost again and again waits at most before it gets work again."""

    idle_exit_seconds: float = Field(0, ge=0)
    """End after this long without a viewer or an answer under way; 0 is never."""

    def limits(self) -> Limits:
        """Return what the core is bounded by."""
        return Limits(
            queued=self.queue_limit,
            return_seconds=self.return_seconds,
            patience_seconds=self.patience_seconds,
            longest_backoff_seconds=self.longest_backoff_seconds,
        )
