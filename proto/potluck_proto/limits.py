"""What one caller can cost: table `[limits]` of `settings.toml`, or `POTLUCK_LIMITS_…`.

Each is checked before work is done for the call. The owner, at the local socket, is bound by the
sizes alone: whoever can open that socket could end the daemons as well.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from potluck_proto.network import MESSAGE_LIMIT_BYTES


class Limits(BaseSettings):
    """The limits of both daemons."""

    model_config = SettingsConfigDict(env_prefix="POTLUCK_LIMITS_", extra="forbid")

    message_bytes: int = Field(MESSAGE_LIMIT_BYTES, ge=2**16, le=2**30)
    """The largest message that is taken."""

    prompt_bytes: int = Field(2**20, ge=1)
    """The longest prompt with its files: a long book, and more than any context of today."""

    chat_bytes: int = Field(8 * 2**20, ge=1)
    """The longest chat, all its branches and files together; it is sent in one message."""

    chat_settings_bytes: int = Field(16 * 2**10, ge=1)
    """The longest title, system prompt and options of a chat; lists of chats hold them."""

    handshakes: int = Field(512, ge=1)
    """Connections to a port that have not shown a certificate yet; beyond it, the oldest goes."""

    connections_per_client: int = Field(16, ge=1)
    """Connections of one paired machine."""

    connections_per_second: int = Field(20, ge=1)
    """New connections from one address; more are closed at once."""

    handshake_seconds: float = Field(5.0, gt=0)
    """How long a new connection has to show its certificate."""

    stall_seconds: float = Field(60.0, gt=0)
    """A peer that takes nothing of what waits for it for so long is cut off."""

    calls_per_client: int = Field(128, ge=1)
    """Calls of one paired machine at once, streams that it follows among them."""

    calls_per_second: int = Field(50, ge=1)
    """New calls of one paired machine; twice as many may come at once."""

    invite_seconds: float = Field(600.0, gt=0)
    """How long an invitation counts."""

    invite_tries: int = Field(5, ge=1)
    """Wrong tries to join after which all open invitations are void."""
