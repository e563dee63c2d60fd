"""Requests at the edge of what a model can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.driving import Outcome, ask, drive
from lineages.conftest import Files
from lineages.engines import CONTEXT_LENGTH, loaded
from lineages.gguf_file import write
from lineages.kinds import llama, saying
from lineages.make import make, metadata, tensors
from lineages.vocabularies import Vocabulary
from potluck_proto.errors import ModelFileError, UnsupportedModel
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.engines.llama.engine import LlamaEngine


@pytest.fixture(scope="module")
def falcon(files: Files) -> Iterator[LlamaEngine]:
    """A model that makes a token of each letter, and whose prompts begin without a mark."""
    with loaded(files("falcon")) as engine:
        yield engine


def greedy(engine: LlamaEngine, prompt: str, **sampling: Any) -> Outcome:
    (outcome,) = drive(engine, ask(prompt, temperature=0.0, **sampling))
    return outcome


def refusal(outcome: Outcome) -> tuple[int, str]:
    assert outcome.end is not None
    assert outcome.end.failure is not None
    return outcome.end.failure.code, outcome.end.failure.message


def test_a_prompt_of_no_tokens_is_said(falcon: LlamaEngine) -> None:
    assert refusal(greedy(falcon, "")) == (types.ERROR_CODE_BAD_REQUEST, "The prompt is empty.")


@pytest.mark.parametrize("length", [CONTEXT_LENGTH, CONTEXT_LENGTH + 1])
def test_a_prompt_that_leaves_no_room_says_both_lengths(falcon: LlamaEngine, length: int) -> None:
    code, message = refusal(greedy(falcon, "x" * length))
    assert code == types.ERROR_CODE_CONTEXT_OVERFLOW
    assert f"{length} tokens" in message
    assert f"{CONTEXT_LENGTH} and must hold the answer too" in message


@pytest.mark.parametrize("room", [1, 2])
def test_an_answer_fills_what_room_there_is(falcon: LlamaEngine, room: int) -> None:
    outcome = greedy(falcon, "x" * (CONTEXT_LENGTH - room))
    assert outcome.end is not None
    assert outcome.end.reason == "context_full"
    assert len(outcome.token_ids) == room


def test_stop_strings_that_never_come_keep_nothing_back(falcon: LlamaEngine) -> None:
    plain = greedy(falcon, "the house", max_tokens=12)
    longer = greedy(falcon, "the house", max_tokens=12, stop=[plain.text + "z" * 1000])
    many = [f"{number} " + "z" * 1000 for number in range(10_000)]
    others = greedy(falcon, "the house", max_tokens=12, stop=many)
    assert plain.text == longer.text == others.text
    assert plain.token_ids == longer.token_ids == others.token_ids


@pytest.mark.parametrize(
    ("grammar", "text", "reason"),
    [
        ('root ::= ""', "", "end_of_turn"),
        ('root ::= "a" root', "a" * 12, "max_tokens"),
        (r"root ::= [^\x00-\U0010FFFF]", "", "failed"),
    ],
)
def test_a_grammar_that_matches_nothing_or_no_end_ends(
    falcon: LlamaEngine, grammar: str, text: str, reason: str
) -> None:
    outcome = greedy(falcon, "the house", grammar=grammar, max_tokens=12)
    assert outcome.end is not None
    assert (outcome.text, outcome.end.reason) == (text, reason)
    if reason == "failed":
        assert "The grammar leads nowhere" in refusal(outcome)[1]


def endless_vocabulary() -> Vocabulary:
    """Return single bytes, as RWKV writes them, and no token that ends a turn."""
    plain = set(b"abcdefghijklmnopqrstuvwxyz ")
    texts = [chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in range(256)]
    said = {
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [1] * 256,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    return Vocabulary(said, 256, 0)


def test_a_model_without_a_token_for_the_end_ends_where_something_else_does(
    tmp_path: Path,
) -> None:
    make(tmp_path / "endless.gguf", llama(vocabulary=endless_vocabulary()))
    with loaded(tmp_path / "endless.gguf") as engine:
        assert engine._vocabulary.never_ends
        outcomes = [
            greedy(engine, "hello", max_tokens=5),
            greedy(engine, "hello"),
            greedy(engine, "hello", grammar='root ::= "yes" | "no"'),
        ]
    ends = [outcome.end.reason for outcome in outcomes if outcome.end]
    assert ends == ["max_tokens", "context_full", "end_of_turn"]
    assert outcomes[2].text in ("yes", "no")


def test_weights_that_are_no_numbers_are_said_at_load(tmp_path: Path) -> None:
    path, lineage = tmp_path / "nothing.gguf", llama()
    broken = (
        (name, values * np.float32("nan") if name == "output_norm.weight" else values, kind)
        for name, values, kind in tensors(lineage)
    )
    write(path, lineage.architecture, metadata(lineage, "nothing"), broken)
    with pytest.raises(ModelFileError, match="nothing computes no numbers"), loaded(path):
        pass


def test_a_file_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    mute = Vocabulary({"tokenizer.ggml.model": "none"}, 512, 0)
    make(tmp_path / "mute.gguf", saying(llama(vocabulary=mute), {"vocab_size": 512}))
    refused = pytest.raises(UnsupportedModel, match=r"mute \(llama\) has no vocabulary")
    with refused, loaded(tmp_path / "mute.gguf"):
        pass
