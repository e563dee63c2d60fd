"""The parts of the vLLM engine that need no vLLM."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from checkpoints import make_adapter, make_llama
from potluck_proto.errors import BadRequest, ModelFileError
from potluck_worker.engines.base import Dry, Mirostat, Sampling, Xtc
from potluck_worker.engines.vllm.adapters import only_adapter
from potluck_worker.engines.vllm.cards import choose_cards
from potluck_worker.engines.vllm.extension import position_seed
from potluck_worker.engines.vllm.settings import constraint, sampling_options
from potluck_worker.engines.vllm.tokens import TokenText

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "needed", "heads", "cards"),
    [
        ({"0": 10}, 8, 32, ["0"]),
        ({"0": 10, "1": 20}, 8, 32, ["1"]),
        ({"0": 10, "1": 10}, 15, 32, ["0", "1"]),
        ({"0": 10, "1": 20}, 25, 32, ["1", "0"]),
        ({"0": 10, "1": 10, "2": 10}, 15, 32, ["0", "1"]),
        ({"0": 10, "1": 10, "2": 10, "3": 10}, 29, 32, ["0", "1", "2", "3"]),
        ({"0": 10, "1": 10, "2": 10}, 29, 30, ["0", "1", "2"]),
        ({"0": 1, "1": 1, "2": 1}, 99, 32, ["0", "1"]),
        ({}, 8, 32, []),
    ],
)
def test_a_model_gets_the_fewest_cards_that_hold_it(
    free: dict[str, int], needed: int, heads: int, cards: list[str]
) -> None:
    assert list(choose_cards(free, lambda count: needed // count, heads)) == cards


def test_what_is_asked_goes_before_what_the_checkpoint_recommends() -> None:
    recommended = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 7, "do_sample": True}
    options = sampling_options(Sampling(temperature=1.2), recommended, 100)
    assert options == {"temperature": 1.2, "top_k": 20, "top_p": 0.95}
    assert sampling_options(Sampling(), {"temperature": math.nan, "top_k": "x"}, 100) == {}


def test_options_reach_vllm_in_its_own_terms() -> None:
    asked = Sampling(
        top_p=0, seed=2**64 - 1, logit_bias={3: -math.inf}, logprobs=4, repetition_penalty=1.1
    )
    options = sampling_options(asked, {}, 100)
    assert 0 < options["top_p"] < 1e-3
    assert 0 <= options["seed"] < 2**63
    assert (options["logit_bias"], options["logprobs"]) == ({3: -math.inf}, 4)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (Sampling(typical_p=0.9), "typical_p"),
        (Sampling(dry=Dry(0.8)), "dry"),
        (Sampling(xtc=Xtc(0.5)), "xtc"),
        (Sampling(mirostat=Mirostat()), "mirostat"),
        (Sampling(penalty_window=64), "penalty_window"),
        (Sampling(temperature=2.5), "temperature"),
        (Sampling(presence_penalty=3), "presence_penalty"),
        (Sampling(temperature=math.nan), "temperature"),
        (Sampling(logit_bias={100: 1.0}), "logit_bias"),
        (Sampling(logprobs=101), "logprobs"),
    ],
)
def test_what_vllm_lacks_or_cannot_be_is_refused_by_name(asked: Sampling, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        sampling_options(asked, {}, 100)


def test_what_changes_nothing_is_not_refused() -> None:
    neutral = Sampling(typical_p=1.0, dry=Dry(0), xtc=Xtc(0), penalty_window=-1)
    assert sampling_options(neutral, {}, 100) == {}


def test_a_constraint_is_one_and_bounded() -> None:
    assert constraint(Sampling()) == {}
    assert constraint(Sampling(json_schema="{}")) == {"json": "{}"}
    with pytest.raises(BadRequest, match="only one"):
        constraint(Sampling(json_schema="{}", grammar='root ::= "a"'))
    with pytest.raises(BadRequest, match="characters long"):
        constraint(Sampling(json_schema=" " * 2**20))
    with pytest.raises(BadRequest, match="no JSON"):
        constraint(Sampling(json_schema="{"))
    with pytest.raises(BadRequest, match="deeper than"):
        constraint(Sampling(json_schema='{"a":[' * 100 + "]}" * 100))
    with pytest.raises(BadRequest, match="missing"):
        constraint(Sampling(grammar="root ::= missing"))


def decode(tokens: Sequence[int]) -> str:
    """A tokenizer of bytes that drops a space at the start of a text, as some do."""
    return bytes(tokens).decode(errors="replace").removeprefix(" ")


@pytest.mark.parametrize("text", [" hello", "für 5 €", "a😀b", " 日本 語", "é" * 30])
def test_text_comes_whole_however_tokens_cut_it(text: str) -> None:
    before = b"<|assistant|>"
    stream = TokenText(decode, before)
    pieces = [stream.push(byte) for byte in text.encode()]
    assert "".join(pieces) + stream.finish() == text
    assert "\ufffd" not in "".join(pieces)


def test_bytes_that_are_no_text_do_not_hold_up_what_follows() -> None:
    stream = TokenText(decode, b"x")
    text = "".join(stream.push(byte) for byte in b"\xff" * 9 + b"words go on")
    assert text.endswith("words go on")
    assert text.count("\ufffd") == 9


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    stream = TokenText(decode, b"x")
    assert [stream.push(byte) for byte in b"a\xe2\x82"] == ["a", "", ""]
    assert stream.finish() == "\ufffd"


def test_positions_are_seeded_apart_and_always_alike() -> None:
    seeds = {position_seed(seed, position) for seed in range(40) for position in range(40)}
    assert len(seeds) == 1600
    assert position_seed(7, 3) == position_seed(7, 3)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_an_adapter_is_safetensors_of_a_rank_that_vllm_holds(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    folder = make_adapter(tmp_path / "adapter", base, rank=12)
    adapter = only_adapter([str(folder / "adapter_model.safetensors")])
    assert adapter is not None
    assert (adapter.folder, adapter.rank, adapter.rank_held) == (folder, 12, 16)
    assert only_adapter([]) is None
    with pytest.raises(BadRequest, match="2 are named"):
        only_adapter([str(folder), str(folder)])
    (folder / "adapter_config.json").write_text(json.dumps({"r": 1000}))
    with pytest.raises(ModelFileError, match="rank 1000"):
        only_adapter([str(folder)])
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelFileError, match="cannot be read"):
        only_adapter([str(folder)])
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelFileError, match=r"no adapter_model\.safetensors"):
        only_adapter([str(folder)])
