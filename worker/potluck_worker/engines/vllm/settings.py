"""Sampling options as vLLM takes them: what was asked, else what the checkpoint recommends.

What vLLM cannot do is refused by name, since an answer that is drawn otherwise than asked for looks
just like one that is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any

from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import Sampling
from potluck_worker.engines.llama import gbnf
from potluck_worker.engines.ranges import LOGPROBS_LIMIT, check_constraint, checked, checked_bias
from potluck_worker.engines.vllm.lacking import require_none_of

_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_k": (0, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
"""What vLLM knows by the same name, from where to where."""

LIMIT_DEPTH = 150
"""The deepest JSON schema. The library takes the third power of it: 0.6 s with 200 levels, 19 s
with 600, while all other answers wait."""

SMALLEST_TOP_P = 1e-6
"""vLLM refuses 0, which means the likeliest token alone, as does this."""


def sampling_options(
    asked: Sampling, recommended: Mapping[str, Any], vocabulary_size: int
) -> dict[str, Any]:
    """Return arguments of vLLM's `SamplingParams`, those that set a constraint left out.

    Args:
        asked: The request's options.
        recommended: The checkpoint's `generation_config.json`; values that are out of range are
            passed over, since nobody who asks can do anything about them.
        vocabulary_size: Tokens that the model has.

    Raises:
        BadRequest: A value that was asked for is impossible, or vLLM lacks the option.
    """
    _refuse_what_is_lacking(asked)
    options: dict[str, Any] = {}
    for name, (lowest, highest) in _RANGES.items():
        value = getattr(asked, name)
        if value is not None:
            options[name] = checked(name, value, lowest, highest)
        elif _fits(recommended.get(name), lowest, highest):
            options[name] = recommended[name]
    if "top_p" in options:
        options["top_p"] = max(SMALLEST_TOP_P, options["top_p"])
    if asked.logit_bias:
        options["logit_bias"] = dict(checked_bias(asked.logit_bias, vocabulary_size))
    if asked.logprobs is not None:
        options["logprobs"] = int(checked("logprobs", asked.logprobs, 0, LOGPROBS_LIMIT))
    if asked.seed is not None:
        # vLLM takes -1 for "no seed", and keeps seeds in 64 bits with a sign.
        options["seed"] = asked.seed % 2**63
    return options


def constraint(asked: Sampling) -> dict[str, str]:
    """Return arguments of vLLM's `StructuredOutputsParams`, empty for no constraint.

    Raises:
        BadRequest: There are two, or one that is too large or would never come to an end.
    """
    check_constraint(asked)
    if asked.json_schema:
        _check_depth(asked.json_schema)
        return {"json": asked.json_schema}
    if asked.grammar:
        gbnf.check(asked.grammar)
        return {"grammar": asked.grammar}
    return {}


def _check_depth(schema: str) -> None:
    """Raise `BadRequest` for a schema that is no JSON, or nested too deep to be followed soon."""
    try:
        level = [json.loads(schema)]
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The JSON schema is no JSON: {error}.") from error
    for _ in range(LIMIT_DEPTH):
        objects = (value.values() for value in level if isinstance(value, dict))
        lists = (value for value in level if isinstance(value, list))
        level = [*chain(*objects, *lists)]
        if not level:
            return
    raise BadRequest(f"The JSON schema is nested deeper than {LIMIT_DEPTH} levels.")


def _refuse_what_is_lacking(asked: Sampling) -> None:
    """Raise `BadRequest` for an option that would change the answer and that vLLM lacks."""
    require_none_of(
        {
            "typical_p": asked.typical_p not in (None, 1.0),
            "dry": asked.dry is not None and asked.dry.multiplier != 0,
            "xtc": asked.xtc is not None and asked.xtc.probability != 0,
            "mirostat": asked.mirostat is not None,
            "penalty_window": asked.penalty_window not in (None, -1),
        }
    )


def _fits(value: object, lowest: float, highest: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return lowest <= value <= highest  # which NaN never is
