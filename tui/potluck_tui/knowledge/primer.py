"""The primer: what one must know of models to choose one, in short plain texts."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import BadRequest

TEXTS = Path(__file__).with_name("primer.toml")


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to know."""

    id: str
    title: str
    text: str
    facts: Sequence[str] = ()
    """Properties of a model that it explains, as `model_facts` calls them."""


@functools.cache
def topics() -> Sequence[Topic]:
    """Return all topics, in the order in which to read them."""
    return [Topic(**entry) for entry in tomllib.loads(TEXTS.read_text())["topic"]]


def topic(name: str) -> Topic:
    """Return a topic by its id, its title, or the beginning of either; case does not matter.

    Raises:
        BadRequest: There is none; the message names what is near.
    """
    wanted = name.strip().lower()
    for found in topics():
        if wanted in (found.id, found.title.lower()):
            return found
    for found in topics():
        if wanted and (found.id.startswith(wanted) or found.title.lower().startswith(wanted)):
            return found
    ids = [found.id for found in topics()]
    near = difflib.get_close_matches(wanted, ids, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(ids)}."
    raise BadRequest(f"The primer has no topic {name!r}. {hint}")


def explanation(fact: str) -> str:
    """Return the text that explains a property of a model, empty where none does."""
    return next((found.text for found in topics() if fact in found.facts), "")
