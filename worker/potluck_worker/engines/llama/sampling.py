"""Drawing tokens, in C, with a seed for each position."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as api

from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import Sampling

_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class _Value:
    """A sampling value that a request may set: the file's name for it, and the default."""

    key: str
    highest: int
    default: float


_VALUES = {
    "temperature": _Value("temp", 1_000_000, 0.8),
    "top_k": _Value("top_k", 1_000_000, 40),
    "top_p": _Value("top_p", 1, 0.95),
    "min_p": _Value("min_p", 1, 0.05),
}
"""The lowest of each is 0. The defaults are llama.cpp's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sampling with every value decided."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int

    @classmethod
    def decide(cls, asked: Sampling, metadata: Mapping[str, str]) -> Settings:
        """Return what was asked, else what the file recommends, else the default.

        An impossible recommendation is passed over: nobody who asks can do anything about it.

        Raises:
            BadRequest: A value that was asked for is impossible.
        """
        decided: dict[str, float] = {}
        for name, known in _VALUES.items():
            value: float | None = getattr(asked, name)
            if value is not None and not 0 <= value <= known.highest:
                raise BadRequest(
                    f"{name} cannot be {value}; it is between 0 and {known.highest:,}."
                )
            if value is None:
                recommended = _number(metadata.get(f"general.sampling.{known.key}", ""))
                value = recommended if 0 <= recommended <= known.highest else known.default
            decided[name] = value
        return cls(
            temperature=decided["temperature"],
            top_k=int(decided["top_k"]),
            top_p=decided["top_p"],
            min_p=decided["min_p"],
            seed=secrets.randbits(64) if asked.seed is None else asked.seed,
        )


def _number(text: str) -> float:
    """Return the number in `text`, or NaN, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


class Sampler:
    """Draws the tokens of one answer.

    The draw at position `i` depends on the logits and on (seed, i) alone, so that an answer that
    moves to another node goes on as it would have gone here.
    """

    def __init__(self, settings: Settings) -> None:
        self._seed = settings.seed
        self._greedy = settings.temperature == 0
        self._chain: Any = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if self._greedy:
            self._add(api.llama_sampler_init_greedy())
            return
        if settings.top_k > 0:
            self._add(api.llama_sampler_init_top_k(settings.top_k))
        if settings.top_p < 1:
            self._add(api.llama_sampler_init_top_p(settings.top_p, 1))
        if settings.min_p > 0:
            self._add(api.llama_sampler_init_min_p(settings.min_p, 1))
        self._add(api.llama_sampler_init_temp(settings.temperature))
        self._draw_at = api.llama_sampler_chain_n(self._chain)
        self._add(api.llama_sampler_init_dist(0))

    def _add(self, sampler: Any) -> None:
        api.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Any, row: int, index: int) -> int:
        """Return the token at position `index` of the answer, from logits `row` of the batch."""
        if not self._greedy:
            api.llama_sampler_free(api.llama_sampler_chain_remove(self._chain, self._draw_at))
            self._add(api.llama_sampler_init_dist(_mix(self._seed, index)))
        return int(api.llama_sampler_sample(self._chain, context, row))

    def close(self) -> None:
        """Free the chain."""
        api.llama_sampler_free(self._chain)


def _mix(seed: int, index: int) -> int:
    """Return 32 bits that look unrelated for neighbouring indices (splitmix64's finalizer).

    The library takes 2**32 - 1 to mean "any seed", so that value is never returned.
    """
    value = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) % (2**32 - 1)
