from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from engines.driving import ask, drive
from potluck_proto.errors import ModelFileError
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.engines.base import (
    Embed,
    Embedded,
    Finished,
    Generate,
    Load,
    Sampling,
    Started,
)
from potluck_worker.engines.fake import FakeEngine, FakeModel, split_words


def load(tmp_path: Path, content: str = "") -> FakeEngine:
    path = tmp_path / "m.fake.toml"
    path.write_text(content)
    engine = FakeEngine()
    engine.load(Load(str(path), 100, 2))
    return engine


def test_it_says_back_what_it_hears(tmp_path: Path) -> None:
    (outcome,) = drive(load(tmp_path), ask("one  two\nthree "))
    assert outcome.text == "You said: one  two\nthree "


def test_it_takes_no_more_answers_at_once_than_its_file_says(tmp_path: Path) -> None:
    engine = load(tmp_path, "slots = 1\ntokens_per_second = 1")
    engine.submit(ask("x", "a"))
    engine.submit(ask("x", "b"))
    engine.step()
    assert (engine.slots_busy, engine.queue_length) == (1, 1)


def test_it_ends_where_the_context_does(tmp_path: Path) -> None:
    (outcome,) = drive(load(tmp_path, f'text = "{"word " * 200}"'), ask("one two"))
    assert outcome.end is not None
    assert (outcome.end.reason, len(outcome.token_ids)) == ("context_full", 98)


def test_an_answer_that_moved_after_its_last_token_ends_without_another(tmp_path: Path) -> None:
    engine = load(tmp_path, 'text = "one two three four"')
    engine.submit(Generate("a", ask("x").messages, Sampling(max_tokens=2), [1, 2], "one two "))
    started, end = engine.step()
    assert isinstance(started, Started)
    assert isinstance(end, Finished)
    assert (end.reason, end.completion_tokens) == ("max_tokens", 2)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_it_goes_on_where_an_answer_was_cut(tmp_path: Path, done: int) -> None:
    engine = load(tmp_path, 'text = "one two three four"')
    words = split_words("one two three four")
    request = Generate("a", ask("x").messages, continue_text="".join(words[:done]))
    engine.submit(request)
    events = []
    while engine.busy:
        events += engine.step()
    assert "".join(getattr(event, "text", "") for event in events) == "".join(words[done:])


def test_it_keeps_to_max_tokens_and_stop_strings(tmp_path: Path) -> None:
    engine = load(tmp_path, 'text = "one two three four"')
    assert drive(engine, ask("x", max_tokens=2))[0].text == "one two "
    assert drive(engine, ask("x", stop=["wo th"]))[0].text == "one t"


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))


def test_texts_that_share_words_are_near_each_other(tmp_path: Path) -> None:
    engine = load(tmp_path)
    engine.submit(Embed("e", ["the red house", "the red Horse", "seven of nine", "The red house"]))
    (event,) = engine.step()
    assert isinstance(event, Embedded)
    house, horse, other, again = (struct.unpack("<16f", vector) for vector in event.embeddings)
    assert house == again
    assert math.hypot(*house) == pytest.approx(1)
    assert cosine(house, horse) > cosine(house, other)
    assert event.prompt_tokens == 12


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (" ", types.ERROR_CODE_BAD_REQUEST, "Input 2 is empty"),
        ("a " * 101, types.ERROR_CODE_CONTEXT_OVERFLOW, "Input 2 is 101 tokens long"),
    ],
)
def test_a_text_that_cannot_be_embedded_is_said(
    tmp_path: Path, text: str, code: int, message: str
) -> None:
    engine = load(tmp_path)
    engine.submit(Embed("e", ["a", text]))
    (event,) = engine.step()
    assert isinstance(event, Finished)
    assert event.failure is not None
    assert event.failure.code == code
    assert message in event.failure.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("speed = 3", "unknown option: speed"),
        ("tokens_per_second = 'fast'", "tokens_per_second"),
        ("text = ", "cannot be read"),
    ],
)
def test_a_mistake_in_its_file_is_said(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.fake.toml"
    path.write_text(content)
    with pytest.raises(ModelFileError, match=message):
        FakeModel.read(path)
