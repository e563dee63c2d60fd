"""Ranges of sampling options that do not depend on the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping

from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import Sampling

LOGIT_BIAS_LIMIT = 10_000
"""The most tokens that a request may bias."""

LOGPROBS_LIMIT = 100
"""The most alternatives that are reported at a position."""

SCHEMA_LIMIT_CHARACTERS = 2**18
"""The longest JSON schema."""


def checked(name: str, value: float, lowest: float, highest: float) -> float:
    """Return `value` if it lies in its range, which NaN never does. Raises `BadRequest`."""
    if not lowest <= value <= highest:
        raise BadRequest(f"{name} cannot be {value}; it is between {lowest:,} and {highest:,}.")
    return value


def checked_bias(asked: Mapping[int, float], vocabulary_size: int) -> Mapping[int, float]:
    """Return what a request adds to logits, if it can be added. Raises `BadRequest`."""
    if len(asked) > LOGIT_BIAS_LIMIT:
        raise BadRequest(
            f"logit_bias names {len(asked):,} tokens; at most {LOGIT_BIAS_LIMIT:,} work."
        )
    for token, bias in asked.items():
        if not 0 <= token < vocabulary_size:
            raise BadRequest(
                f"logit_bias names the token {token}; the vocabulary has {vocabulary_size:,}."
            )
        if not (bias == -math.inf or -10_000 <= bias <= 10_000):
            raise BadRequest(
                f"logit_bias cannot add {bias}; it is between -10,000 and 10,000, or minus "
                "infinity to rule a token out."
            )
    return asked


def check_constraint(asked: Sampling) -> None:
    """Raise `BadRequest` for a grammar beside a JSON schema, or for a schema that is too long."""
    if asked.grammar and asked.json_schema:
        raise BadRequest("The request has a grammar and a JSON schema; only one can be met.")
    if len(asked.json_schema) > SCHEMA_LIMIT_CHARACTERS:
        raise BadRequest(
            f"The JSON schema is {len(asked.json_schema):,} characters long; at most "
            f"{SCHEMA_LIMIT_CHARACTERS:,} work."
        )
