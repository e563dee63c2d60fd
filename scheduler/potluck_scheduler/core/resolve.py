"""From what a person typed to the models that it may mean."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from potluck_proto.errors import UnknownModel, UnsupportedModel
from potluck_scheduler.core.model import Model, ModelKey, Node
from potluck_scheduler.core.pool import Pool

SHOWN = 6
"""Names that an error lists."""

NAMES_KEPT = 1_000
DEFAULT_SECONDS = 1.0
"""How long a default is thought to be the right one."""


class Names:
    """What names mean in a pool; kept until the pool has other models.

    Args:
        default: The model for those who name none; empty lets the pool decide.
    """

    def __init__(self, default: str) -> None:
        self._default = default
        self._revision = -1
        self._meanings: dict[str, list[ModelKey]] = {}
        self._chosen = ("", -1.0)

    def copy(self) -> Names:
        """Return what is known as it is now."""
        other = Names(self._default)
        other._revision, other._chosen = self._revision, self._chosen
        other._meanings = dict(self._meanings)
        return other

    def keys(self, typed: str, pool: Pool, now: float) -> list[ModelKey]:
        """Return the models that chat and that a name means, the best first.

        Raises:
            UnknownModel: No node has one.
            UnsupportedModel: It only embeds.
        """
        if pool.revision != self._revision:
            self._revision = pool.revision
            self._meanings.clear()
            self._chosen = ("", -1.0)
        typed = typed or self._default or self._pool_default(pool, now)
        found = self._meanings.get(typed)
        if found is None:
            known = {key: next(iter(at.values())) for key, at in pool.known.items()}
            found = _those_that_chat(resolve(typed, known), known)
            if len(self._meanings) < NAMES_KEPT:
                self._meanings[typed] = found
        return found

    def _pool_default(self, pool: Pool, now: float) -> str:
        name, until = self._chosen
        if now >= until:
            name = default_model(place.node for place in pool.places.values())
            self._chosen = (name, now + DEFAULT_SECONDS)
        return name


def resolve(typed: str, known: Mapping[ModelKey, Model]) -> list[ModelKey]:
    """Return the models that a typed name means, the best first.

    `name:quantization` and a whole file name mean one; a name alone means all its quantizations,
    those with more bits per weight first. Case does not matter.

    Raises:
        UnknownModel: No node has one; the message lists what is near and what there is.
    """
    name, _, quantization = typed.partition(":")
    found = [key for key in known if _means(key, name.lower(), quantization.lower())]
    if not found:
        raise UnknownModel(_unknown(typed, known), model=typed)
    return sorted(found, key=lambda key: -known[key].bits_per_weight)


def _those_that_chat(found: list[ModelKey], known: Mapping[ModelKey, Model]) -> list[ModelKey]:
    """Leave out models that only embed texts. Raises `UnsupportedModel` where no other is left."""
    chat = [key for key in found if not known[key].embeds_only]
    if not chat:
        raise UnsupportedModel(
            f"{found[0]} embeds texts and cannot chat. Choose a model made for chat or completion."
        )
    return chat


def default_model(nodes: Iterable[Node]) -> str:
    """Return the model for those who name none, empty where there is none at all.

    One that can chat here before one that cannot, one that fits before one that does not, a real
    one before the starter, one in memory before others, then the largest.
    """
    best: tuple[tuple[bool, bool, bool, bool, int, float], str] | None = None
    for node in nodes:
        for key, model in node.files.items():
            loaded = key in node.memory
            fits = loaded or model.memory_needed_bytes <= node.memory_free_bytes
            size = (model.parameter_count, model.bits_per_weight)
            chats = model.usable and not model.embeds_only
            rank = (chats, fits, not model.starter, loaded, *size)
            if best is None or rank > best[0]:
                best = (rank, str(key))
    return best[1] if best else ""


def _means(key: ModelKey, name: str, quantization: str) -> bool:
    mine, bits = key.name.lower(), key.quantization.lower()
    if quantization and quantization != bits:
        return False
    return name == mine or (bool(bits) and name in {f"{mine}{mark}{bits}" for mark in "-._"})


def _unknown(typed: str, known: Iterable[ModelKey]) -> str:
    names = sorted({str(key) for key in known})
    if not names:
        return (
            f"No node has a model {typed!r}, nor any other. Put a GGUF file into a models folder."
        )
    near = difflib.get_close_matches(typed, names, n=3, cutoff=0.5)
    if near:
        return f"No node has a model {typed!r}. Did you mean {' or '.join(near)}?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"No node has a model {typed!r}. There are: {', '.join(names[:SHOWN])}{more}."
