"""Vocabularies of every kind: from texts to tokens, and from tokens to texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineages.conftest import Files
from lineages.engines import greedy, loaded
from lineages.kinds import LINEAGES, qwen3
from lineages.make import make
from lineages.vocabularies import SPACE
from potluck_worker.engines.llama import library
from potluck_worker.engines.llama.vocabulary import Vocabulary
from potluck_worker.engines.text import AnswerText

# SentencePiece takes its own sign of a space for one.
texts = st.text(st.characters(codec="utf-8", exclude_characters=SPACE), max_size=40)


@pytest.fixture(scope="module")
def vocabularies(files: Files) -> Iterator[dict[str, Vocabulary]]:
    """The vocabulary of each lineage, and of two encoders."""
    log = library.start()
    names = [*LINEAGES, "bert", "bert-first"]
    models = {name: library.Model(files(name), log, vocabulary_only=True) for name in names}
    yield {name: Vocabulary(model.vocabulary) for name, model in models.items()}
    for model in models.values():
        model.close()


def shown(vocabulary: Vocabulary, tokens: list[int]) -> str:
    """Return the text of an answer that comes token by token."""
    text = AnswerText()
    return "".join(text.push(vocabulary.piece(token)) for token in tokens) + text.finish()


@pytest.mark.parametrize("name", LINEAGES)
@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_a_text_comes_back_from_its_tokens(
    vocabularies: dict[str, Vocabulary], name: str, text: str
) -> None:
    vocabulary = vocabularies[name]
    tokens = vocabulary.tokenize(text, special=False)
    # SentencePiece puts a space in front.
    back = text if vocabulary.bos_text != "<s>" or not text else " " + text
    assert shown(vocabulary, tokens) == back


@pytest.mark.parametrize("name", LINEAGES)
def test_a_character_that_is_split_over_tokens_is_shown_once_it_is_whole(
    vocabularies: dict[str, Vocabulary], name: str
) -> None:
    vocabulary = vocabularies[name]
    tokens = vocabulary.tokenize("é世🦙", special=False)
    text = AnswerText()
    pieces = [text.push(vocabulary.piece(token)) for token in tokens]
    assert "".join(pieces).strip() == "é世🦙"
    assert len(tokens) > 3
    assert pieces.count("") >= 4
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("name", LINEAGES)
def test_a_prompt_begins_as_the_library_begins_it(
    vocabularies: dict[str, Vocabulary], name: str
) -> None:
    vocabulary = vocabularies[name]
    for text in ("the house", " x", "世"):
        prompt = vocabulary.tokenize(text, special=True, start=True)
        assert prompt == vocabulary.tokenize_alone(text)


def test_a_mark_of_the_beginning_that_a_template_wrote_is_not_doubled(
    vocabularies: dict[str, Vocabulary],
) -> None:
    vocabulary = vocabularies["llama"]
    assert vocabulary.tokenize("<s>the", special=True, start=True).count(1) == 1
    assert vocabulary.tokenize("the", special=True, start=True).count(1) == 1


def test_a_model_that_wants_a_mark_behind_texts_gets_it_there_and_not_in_prompts(
    tmp_path: Path,
) -> None:
    said = {"tokenizer.ggml.add_eos_token": True}
    lineage = qwen3()
    metadata = {**lineage.vocabulary.metadata, **said}
    make(
        tmp_path / "m.gguf",
        replace(lineage, vocabulary=replace(lineage.vocabulary, metadata=metadata)),
    )
    with loaded(tmp_path / "m.gguf") as engine:
        prompt = engine._prompts.tokens(greedy("the house").messages)
        assert engine._vocabulary.tokenize_alone("the house") == [*prompt, lineage.vocabulary.end]


def test_words_that_an_encoder_does_not_know_are_marked_and_not_lost(
    vocabularies: dict[str, Vocabulary],
) -> None:
    words = vocabularies["bert"]
    assert words.tokenize_alone("The House") == words.tokenize_alone("the house")
    first, *inner, last = words.tokenize_alone("the 世")
    marks = [words.piece(token, special=True) for token in (first, inner[-1], last)]
    assert marks == [b"[CLS]", b"[UNK]", b"[SEP]"]
    pieces = vocabularies["bert-first"]
    *inner, last = pieces.tokenize_alone("the 世")
    assert [pieces.piece(token, special=True) for token in (inner[-1], last)] == [b"<unk>", b"</s>"]


def test_files_share_a_hash_where_their_tokens_mean_the_same(
    vocabularies: dict[str, Vocabulary],
) -> None:
    hashes = {name: vocabulary.sha256() for name, vocabulary in vocabularies.items()}
    assert hashes["gpt2"] == hashes["starcoder"]
    assert hashes["llama"] == hashes["gemma3"]
    assert len(set(hashes.values())) == 4
