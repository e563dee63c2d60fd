from __future__ import annotations

import math
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.driving import ask
from potluck_worker.engines import frames
from potluck_worker.engines.base import (
    Cancel,
    ChatMessage,
    Close,
    Dry,
    Embed,
    Embedded,
    Failure,
    Finished,
    FromChild,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Mirostat,
    Produced,
    Sampling,
    Started,
    Stats,
    ToChild,
    TokenLogprobs,
    Xtc,
)

TO_CHILD: list[ToChild] = [
    Load("/m.gguf", 4096, 4, kv_type="q8_0", lora_adapters=["/a.gguf"]),
    Generate(
        "a",
        [ChatMessage("user", "Hi"), ChatMessage("assistant", "", tool_calls="[]")],
        Sampling(
            temperature=1.0,
            dry=Dry(0.5),
            xtc=Xtc(0.5),
            mirostat=Mirostat(),
            logit_bias={7: -math.inf},
            seed=2**64 - 1,
            stop=["x"],
        ),
        continue_token_ids=[2**32 - 1],
    ),
    Embed("a", ["one", "two"]),
    Cancel("a"),
    Close(),
]
FROM_CHILD: list[FromChild] = [
    Loading(0.5),
    Loaded(2**40, 0, 0, 4096, 4),
    LoadFailed(Failure(20, "no", {"n": "1"})),
    Started("a", 3, 2),
    Produced("a", 0, [1], 0, "é", [TokenLogprobs([1, 2], [-0.5, -math.inf])]),
    Finished("a", "failed", failure=Failure(1, "no")),
    Embedded("a", [b"\0\0\0\x3f"], 3),
    Stats(1, 0, 2.5, 7),
]


def body(frame: ToChild | FromChild) -> bytes:
    return frames.encode(frame)[4:]


def test_every_frame_arrives_as_it_was_sent() -> None:
    assert {type(frame) for frame in TO_CHILD} == set(get_args(ToChild))
    assert {type(frame) for frame in FROM_CHILD} == set(get_args(FromChild))
    for frame in TO_CHILD:
        arrived = frames.decode_to_child(body(frame))
        assert body(arrived) == body(frame)
        assert type(arrived) is type(frame)
    for answer in FROM_CHILD:
        came = frames.decode_from_child(body(answer))
        assert body(came) == body(answer)
        assert type(came) is type(answer)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "produced"},
        {"kind": "unknown"},
        {"kind": "generate", "request_id": "a", "messages": []},
        {"kind": "started", "request_id": "a", "prompt_tokens": -1, "cached_prompt_tokens": 0},
        {"kind": "started", "request_id": "a", "prompt_tokens": 2**32, "cached_prompt_tokens": 0},
        {"kind": "started", "request_id": 7, "prompt_tokens": 1, "cached_prompt_tokens": 0},
        {"kind": "loadfailed", "failure": {"code": 2**31, "message": "no"}},
        {"kind": "finished", "request_id": "a", "reason": "failed"},
        {"kind": "finished", "request_id": "a", "reason": "stopped", "failure": {"code": 1}},
        {"kind": "finished", "request_id": "a", "reason": "bored"},
        {"kind": "stats", "slots_busy": -1, "queue_length": 0, "tokens_per_second": 0, "steps": 0},
        [],
        None,
    ],
)
def test_a_frame_that_breaks_the_contract_is_refused_at_the_pipe(wrong: object) -> None:
    with pytest.raises(frames.FrameError):
        frames.decode_from_child(msgspec.msgpack.encode(wrong))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_refused(garbage: bytes) -> None:
    for decode in (frames.decode_from_child, frames.decode_to_child):
        try:
            decode(garbage)
        except frames.FrameError:
            continue


def test_text_that_is_no_unicode_and_lists_without_end_are_refused() -> None:
    for garbage in (b"\x81\xa4kind\xa1\xff", b"\x91" * 100_000):
        with pytest.raises(frames.FrameError):
            frames.decode_from_child(garbage)


def test_what_is_asked_reaches_the_child_whole() -> None:
    frame = ask("Grüße 漢字 🎉", temperature=0.5, stop=["a", "b"])
    arrived = frames.decode_to_child(body(frame))
    assert isinstance(arrived, Generate)
    assert arrived.messages == frame.messages
    assert arrived.sampling.temperature == 0.5
    assert list(arrived.sampling.stop) == ["a", "b"]
