from __future__ import annotations

import math

import pytest

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.convert import generate_frame, response
from potluck_worker.engines.base import (
    Dry,
    Generate,
    Mirostat,
    Produced,
    Sampling,
    TokenLogprobs,
    Xtc,
)


def frame(sampling: types.Sampling) -> Generate:
    messages = [types.Message(role=types.ROLE_USER, content="Hi")]
    return generate_frame(pb.GenerateRequest(messages=messages, sampling=sampling), "a")


def test_every_sampling_option_of_the_contract_reaches_the_engine() -> None:
    asked = types.Sampling(
        temperature=0.5,
        top_k=0,
        top_p=0.25,
        min_p=0.125,
        typical_p=0.75,
        repetition_penalty=1.5,
        presence_penalty=-0.5,
        frequency_penalty=0.5,
        penalty_window=2**32 - 1,
        dry=types.Dry(
            multiplier=0.5, base=2, allowed_length=3, penalty_window=9, sequence_breakers=["."]
        ),
        xtc=types.Xtc(probability=0.5, threshold=0.25),
        mirostat=types.Mirostat(tau=3, eta=0.5),
        logit_bias={5: -math.inf, 6: 1.5},
        seed=2**64 - 1,
        max_tokens=7,
        stop=["a", "b"],
        grammar="root",
        logprobs=0,
    )
    everything = {field.name for field in types.Sampling.DESCRIPTOR.fields}
    assert {field.name for field, _ in asked.ListFields()} == everything - {"json_schema"}
    assert frame(asked).sampling == Sampling(
        temperature=0.5,
        top_k=0,
        top_p=0.25,
        min_p=0.125,
        typical_p=0.75,
        repetition_penalty=1.5,
        presence_penalty=-0.5,
        frequency_penalty=0.5,
        penalty_window=2**32 - 1,
        dry=Dry(0.5, 2, 3, 9, (".",)),
        xtc=Xtc(0.5, 0.25),
        mirostat=Mirostat(3, 0.5),
        logit_bias={5: -math.inf, 6: 1.5},
        seed=2**64 - 1,
        max_tokens=7,
        stop=["a", "b"],
        grammar="root",
        logprobs=0,
    )
    assert frame(types.Sampling(json_schema="{}")).sampling.json_schema == "{}"


def test_what_is_left_out_is_left_to_the_engine() -> None:
    assert frame(types.Sampling()).sampling == Sampling(stop=[])
    asked = types.Sampling(
        dry=types.Dry(multiplier=0.5), xtc=types.Xtc(probability=0.5), mirostat=types.Mirostat()
    )
    assert frame(asked).sampling == Sampling(
        dry=Dry(0.5), xtc=Xtc(0.5), mirostat=Mirostat(), stop=[]
    )


def test_stop_strings_have_their_limits() -> None:
    assert len(frame(types.Sampling(stop=["ab"] * 16_384)).sampling.stop) == 16_384
    with pytest.raises(BadRequest, match="16,385 stop strings"):
        frame(types.Sampling(stop=["ab"] * 16_385))
    with pytest.raises(BadRequest, match="1,025 characters long"):
        frame(types.Sampling(stop=["a" * 1025]))


def test_log_probabilities_go_with_their_tokens() -> None:
    logprobs = [TokenLogprobs([5, 6], [-0.5, -math.inf]), TokenLogprobs([7], [-1.0])]
    delta = response(Produced("a", 3, [5, 7], 0, "x", logprobs)).delta
    assert [(list(at.token_ids), list(at.logprobs)) for at in delta.logprobs] == [
        ([5, 6], [-0.5, -math.inf]),
        ([7], [-1.0]),
    ]
