"""Embeddings of every lineage, alone and beside answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llama_cpp import LLAMA_ATTENTION_TYPE_NON_CAUSAL
from numpy.typing import NDArray

from engines.driving import Outcome, plain_class
from lineages.conftest import CATALOGUE, Files
from lineages.engines import CONTEXT_LENGTH, answers, check_same, greedy, loaded
from lineages.kinds import ENCODERS
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.engines.base import Embed, Embedded, Finished, FromChild, Load, Produced
from potluck_worker.engines.llama.engine import LlamaEngine

TEXTS = (
    "the house",
    "the answer and the memory of a machine " * 3,
    "a",
    "computer 12 zebra!",
    "Which model has the answer?",
)

Vectors = NDArray[np.float32]


def run(engine: LlamaEngine, *requests: Any) -> list[FromChild]:
    """Submit requests together; return all that comes of them."""
    for request in requests:
        engine.submit(request)
    events = []
    while engine.busy:
        events += engine.step()
    return events


def vectors_of(event: FromChild) -> Vectors:
    """Return the embeddings of a request, one in a row."""
    assert isinstance(event, Embedded), event
    return np.array([np.frombuffer(vector, "<f4") for vector in event.embeddings])


def embed(engine: LlamaEngine, *texts: str) -> Vectors:
    (event,) = run(engine, Embed("e", texts))
    return vectors_of(event)


def refusal(event: FromChild) -> tuple[int, str]:
    assert isinstance(event, Finished)
    assert event.failure is not None
    return event.failure.code, event.failure.message


@pytest.mark.parametrize("name", CATALOGUE)
def test_embeddings_are_those_of_the_librarys_own_class(files: Files, name: str) -> None:
    with loaded(files(name), 3) as engine:
        found = embed(engine, *TEXTS)
        pooling = engine._model.pooling
    library = plain_class(
        files(name),
        embedding=True,
        n_ctx=CONTEXT_LENGTH,
        n_batch=CONTEXT_LENGTH,
        pooling_type=pooling,
        # It decodes T5's encoder as if that spoke.
        **{"attention_type": LLAMA_ATTENTION_TYPE_NON_CAUSAL} if name == "t5encoder" else {},
    )
    made = [row["embedding"] for row in library.create_embedding(list(TEXTS))["data"]]
    library.close()
    expected = np.array(made) / np.linalg.norm(made, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_text_embeds_the_same_whatever_comes_with_it(files: Files, name: str) -> None:
    with loaded(files(name)) as engine:
        together = embed(engine, *TEXTS, *TEXTS)
        alone = np.concatenate([embed(engine, text) for text in TEXTS])
    np.testing.assert_allclose(together, np.concatenate([alone, alone]), atol=1e-4)
    assert len(np.unique(alone.round(3), axis=0)) == len(TEXTS), "each text has its own"


@pytest.mark.parametrize("name", ["llama", "gemma3", "lfm2", "mamba"])
@pytest.mark.parametrize("slots", [1, 3])
def test_answers_and_embeddings_go_on_side_by_side(files: Files, name: str, slots: int) -> None:
    prompts = ["the house and " * 9, "a model", "Which machine?"]
    with loaded(files(name), slots) as engine:
        alone = [answers(engine, [prompt])[0] for prompt in prompts]
        expected = embed(engine, *TEXTS)
        requests = [greedy(prompt, str(n)) for n, prompt in enumerate(prompts)]
        together = {request.request_id: Outcome() for request in requests}
        embedded = []
        for event in run(engine, Embed("e", TEXTS), *requests, Embed("f", TEXTS)):
            if isinstance(event, Embedded):
                embedded.append(event)
            elif hasattr(event, "request_id"):
                together[event.request_id].take(event)
    check_same(alone, list(together.values()))
    assert [event.request_id for event in embedded] == ["e", "f"]
    for event in embedded:
        np.testing.assert_allclose(vectors_of(event), expected, atol=1e-4)


def test_many_texts_leave_a_slot_to_answers_and_answers_leave_one_to_texts(files: Files) -> None:
    with loaded(files("llama"), slots=2) as engine:
        engine.submit(Embed("e", ["the house and the computer " * 20] * 10))
        engine.step()
        assert engine.slots_busy == 1
        engine.submit(greedy("a", "one", 200))
        engine.submit(greedy("b", "two", 200))
        order: list[str] = []
        while engine.busy:
            events = engine.step()
            order += [e.request_id for e in events if isinstance(e, Produced | Embedded)]
    assert order[0] == "one"
    assert "e" in order[: order.index("two")], "the texts did not wait for both answers"


def test_a_text_makes_room_for_an_answer_that_grows(files: Files) -> None:
    with loaded(files("llama"), slots=2, cells=CONTEXT_LENGTH) as engine:
        prompt, text = "a" * 200, "b" * 206
        (alone,) = answers(engine, [prompt], 200)
        expected = embed(engine, text)
        steps_back = 0
        step_back = engine._embedder.step_back

        def counted() -> bool:
            nonlocal steps_back
            steps_back += engine._embedder.running
            return step_back()

        engine._embedder.step_back = counted  # type: ignore[method-assign]
        outcome, events = Outcome(), []
        engine.submit(greedy(prompt, "a", 200))
        while engine.busy:
            for event in engine.step():
                if isinstance(event, Embedded):
                    events.append(event)
                else:
                    outcome.take(event)
            if len(outcome.token_ids) == 100:
                engine.submit(Embed("e", [text]))
    assert steps_back
    check_same([alone], [outcome])
    np.testing.assert_allclose(vectors_of(*events), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_longest_text_is_embedded_and_a_longer_one_refused_with_both_lengths(
    files: Files, name: str
) -> None:
    engine = LlamaEngine()
    engine.load(Load(str(files(name)), 128, 2, threads=1))
    words = next(
        words
        for words in range(128)
        if len(engine._vocabulary.tokenize_alone("a " * words + "a")) == 128
    )
    assert embed(engine, "a " * words + "a").shape == (1, 64)
    (event,) = run(engine, Embed("e", ["a", "a " * (words + 1) + "a"]))
    code, message = refusal(event)
    assert code == types.ERROR_CODE_CONTEXT_OVERFLOW
    assert message.startswith("Input 2 is 129 tokens long; ")
    assert "128 at most" in message
    engine.close()


@pytest.mark.parametrize(
    ("inputs", "message"), [(["a", ""], "Input 2 is empty"), ([], "no inputs")]
)
def test_nothing_to_embed_is_said(files: Files, inputs: list[str], message: str) -> None:
    with loaded(files("llama")) as engine:
        bad, good = run(engine, Embed("e", inputs), Embed("f", ["a"]))
        code, said = refusal(bad)
    assert code == types.ERROR_CODE_BAD_REQUEST
    assert message in said
    assert isinstance(good, Embedded)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_model_that_only_embeds_refuses_to_chat(files: Files, name: str) -> None:
    with loaded(files(name)) as engine:
        bad, good = run(engine, greedy("hello"), Embed("e", ["hello"]))
        code, message = refusal(bad)
    assert code == types.ERROR_CODE_UNSUPPORTED_MODEL
    assert message.startswith(f"{name} embeds texts and cannot chat.")
    assert isinstance(good, Embedded)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_cancelled_request_leaves_the_others_alone(files: Files, name: str) -> None:
    with loaded(files(name)) as engine:
        for request_id in "abc":
            engine.submit(Embed(request_id, ["the house and the computer " * 4] * 40))
        events = engine.step()
        engine.cancel("b")
        engine.cancel("b")
        while engine.busy:
            events += engine.step()
    ends = [(event.request_id, type(event)) for event in events]  # type: ignore[union-attr]
    assert sorted(ends, key=str) == [("a", Embedded), ("b", Finished), ("c", Embedded)]


def test_an_embedding_takes_nothing_from_the_cache_of_answers(files: Files) -> None:
    with loaded(files("llama"), slots=2) as engine:
        (first,) = answers(engine, ["the house and the computer"], 20)
        embed(engine, *TEXTS)
        (again,) = answers(engine, ["the house and the computer"], 20)
    assert again.started is not None
    assert again.started.cached_prompt_tokens == again.started.prompt_tokens - 1
    assert again.token_ids == first.token_ids
