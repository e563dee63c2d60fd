"""Sampling options decided: what was asked, else what the file recommends, else the default."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import Dry, Mirostat, Sampling, Xtc
from potluck_worker.engines.ranges import LOGPROBS_LIMIT, checked, checked_bias

SEQUENCE_BREAKERS_LIMIT = 64
"""The most sequence breakers of DRY; the library walks the whole vocabulary for each."""

COLDEST = 1e-4
"""Below this, dividing by the temperature overflows; all but the likeliest have no chance here."""

WHOLE_CONTEXT = -1
"""A window that is as long as the context."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A number that a request may set: the file's name for it, its range, and the default."""

    key: str
    lowest: float
    highest: float
    default: float


_VALUES = {
    "temperature": _Value("temp", 0, 1_000_000, 0.8),
    "top_k": _Value("top_k", 0, 2**32, 40),
    "top_p": _Value("top_p", 0, 1, 0.95),
    "min_p": _Value("min_p", 0, 1, 0.05),
    "typical_p": _Value("", 0, 1, 1.0),
    "repetition_penalty": _Value("penalty_repeat", 0.01, 100, 1.0),
    "presence_penalty": _Value("", -100, 100, 0.0),
    "frequency_penalty": _Value("", -100, 100, 0.0),
    "penalty_window": _Value("penalty_last_n", WHOLE_CONTEXT, 2**32, 64),
}
"""The defaults are llama.cpp's. A key that is empty stands for a value that no file recommends."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sampling with every value decided, each within its range."""

    temperature: float
    """0 is greedy: of the options below, only those that change logits count then."""
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    penalty_window: int
    """Tokens, no longer than the context."""
    dry: Dry | None
    xtc: Xtc | None
    mirostat: Mirostat | None
    logit_bias: Mapping[int, float]
    seed: int
    logprobs: int | None

    @classmethod
    def decide(
        cls,
        asked: Sampling,
        metadata: Mapping[str, str],
        *,
        context_length: int,
        vocabulary_size: int,
    ) -> Settings:
        """Return what was asked, else what the file recommends, else the default.

        An impossible recommendation is passed over: nobody who asks can do anything about it.

        Raises:
            BadRequest: A value that was asked for is impossible.
        """
        decided: dict[str, float] = {}
        for name, known in _VALUES.items():
            value: float | None = getattr(asked, name)
            if value is None:
                recommended = _number(metadata, known.key) if known.key else math.nan
                fits = known.lowest <= recommended <= known.highest
                value = recommended if fits else known.default
            decided[name] = checked(name, value, known.lowest, known.highest)
        return cls(
            temperature=max(COLDEST, decided["temperature"]) if decided["temperature"] else 0.0,
            top_k=int(decided["top_k"]),
            top_p=decided["top_p"],
            min_p=decided["min_p"],
            typical_p=decided["typical_p"],
            repetition_penalty=decided["repetition_penalty"],
            presence_penalty=decided["presence_penalty"],
            frequency_penalty=decided["frequency_penalty"],
            penalty_window=_window(int(decided["penalty_window"]), context_length),
            dry=_dry(asked.dry, context_length),
            xtc=_xtc(asked.xtc, metadata),
            mirostat=_mirostat(asked.mirostat, metadata),
            logit_bias=checked_bias(asked.logit_bias, vocabulary_size),
            seed=secrets.randbits(64) if asked.seed is None else asked.seed,
            logprobs=asked.logprobs
            if asked.logprobs is None
            else int(checked("logprobs", asked.logprobs, 0, LOGPROBS_LIMIT)),
        )

    @property
    def penalizes(self) -> bool:
        """Whether repetition, presence or frequency count."""
        neutral = self.repetition_penalty == 1 and not (
            self.presence_penalty or self.frequency_penalty
        )
        return self.penalty_window > 0 and not neutral


def _number(metadata: Mapping[str, str], key: str) -> float:
    """Return what the file recommends, or NaN, which is in no range."""
    try:
        return float(metadata.get(f"general.sampling.{key}", ""))
    except ValueError:
        return math.nan


def _window(tokens: int, context_length: int) -> int:
    return context_length if tokens == WHOLE_CONTEXT else min(tokens, context_length)


def _dry(asked: Dry | None, context_length: int) -> Dry | None:
    if asked is None or asked.multiplier == 0:
        return None
    breakers = tuple(dict.fromkeys(filter(None, asked.sequence_breakers)))
    if len(breakers) > SEQUENCE_BREAKERS_LIMIT:
        raise BadRequest(
            f"DRY has {len(breakers):,} sequence breakers; at most {SEQUENCE_BREAKERS_LIMIT} work."
        )
    window = int(checked("dry.penalty_window", asked.penalty_window, WHOLE_CONTEXT, 2**32))
    return Dry(
        multiplier=checked("dry.multiplier", asked.multiplier, 0, 100),
        base=checked("dry.base", asked.base, 1, 100),
        allowed_length=min(
            int(checked("dry.allowed_length", asked.allowed_length, 0, 2**32)), context_length
        ),
        penalty_window=_window(window, context_length),
        sequence_breakers=breakers,
    )


def _xtc(asked: Xtc | None, metadata: Mapping[str, str]) -> Xtc | None:
    if asked is None:
        probability, threshold = (
            _number(metadata, "xtc_probability"),
            _number(metadata, "xtc_threshold"),
        )
        if not 0 < probability <= 1:
            return None
        return Xtc(probability, threshold if 0 <= threshold <= 1 else Xtc(0).threshold)
    xtc = Xtc(
        probability=checked("xtc.probability", asked.probability, 0, 1),
        threshold=checked("xtc.threshold", asked.threshold, 0, 1),
    )
    return xtc if xtc.probability > 0 else None


def _mirostat(asked: Mirostat | None, metadata: Mapping[str, str]) -> Mirostat | None:
    if asked is None:
        if _number(metadata, "mirostat") != 2:
            return None
        tau, eta = _number(metadata, "mirostat_tau"), _number(metadata, "mirostat_eta")
        fits = 0 < tau <= 100 and 0 <= eta <= 1
        return Mirostat(tau, eta) if fits else Mirostat()
    return Mirostat(
        tau=checked("mirostat.tau", asked.tau, 0, 100),
        eta=checked("mirostat.eta", asked.eta, 0, 1),
    )
