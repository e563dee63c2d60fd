"""Ids, as distinct types so that the type checker catches one given for another."""

from __future__ import annotations

import random
import secrets
from typing import NewType

NodeId = NewType("NodeId", str)
"""One worker installation: 16 hex digits, kept in its home."""
ChatId = NewType("ChatId", str)
MessageId = NewType("MessageId", str)
GenerationId = NewType("GenerationId", str)
"""One answer, over all the nodes that it visits."""

_CHANCE = random.Random(secrets.randbits(256))


def new_id() -> str:
    """Return 16 random hex digits: 64 bits, enough that a house never sees two alike.

    Ids are no secrets: to know one lets nobody do anything.
    """
    return f"{_CHANCE.getrandbits(64):016x}"


def new_seed() -> int:
    """Return a random seed of 32 bits, for sampling."""
    return _CHANCE.getrandbits(32)
