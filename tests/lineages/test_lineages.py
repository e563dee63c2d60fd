"""Every lineage in the engine: it fits, answers, shares steps and caches, and changes nothing."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest

from engines.asking import AMPLE
from engines.driving import drive, plain_class
from lineages.conftest import Files
from lineages.engines import CONTEXT_LENGTH, answers, check_same, greedy, loaded
from lineages.kinds import ENCODERS, LINEAGES
from potluck_worker.engines.base import Generate, Load
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.llama.snapshots import DISTANCE_TOKENS
from potluck_worker.engines.sizing import HOST, Options, Question
from potluck_worker.inspect_host import describe

each_lineage = pytest.mark.parametrize("name", LINEAGES)

PROMPTS = (
    "the house and the computer",
    "Grüße, 世界 🦙! " * 4,
    "the answer of a machine is in the memory of the model " * 5,
)


@pytest.mark.parametrize("name", [*LINEAGES, *ENCODERS])
def test_the_dry_run_knows_what_the_load_takes(files: Files, name: str) -> None:
    options = Options(CONTEXT_LENGTH, 3, "f16", flash_attention=True)
    described = describe(Question(str(files(name)), options, AMPLE))
    inspection, share = described.inspection, described.plan.estimate.on(HOST)
    engine = LlamaEngine()
    found = engine.load(Load(str(files(name)), CONTEXT_LENGTH, 3, flash_attention=True, threads=1))
    engine.close()
    assert inspection.architecture == (LINEAGES | ENCODERS)[name].architecture
    assert inspection.quantization == "F32"
    assert inspection.bits_per_weight == 32
    assert inspection.embeds_only == (name in ENCODERS)
    assert found.kv_cache_bytes == share.kv_cache_bytes
    assert found.compute_bytes == share.compute_bytes
    assert found.weights_bytes == share.weights_bytes
    if name in LINEAGES:
        assert found.kv_cache_bytes > 0


@each_lineage
def test_it_answers_as_the_librarys_own_class_token_for_token(files: Files, name: str) -> None:
    library = plain_class(files(name), n_ctx=CONTEXT_LENGTH)
    with loaded(files(name)) as engine:
        for prompt in PROMPTS:
            (outcome,) = answers(engine, [prompt])
            tokens = engine._prompts.tokens(greedy(prompt).messages)
            made = library.create_completion(
                tokens, temperature=0.0, repeat_penalty=1.0, max_tokens=40
            )
            # It leaves out what is no text, where ours has a mark; and it adds a token to an answer
            # that ends within a character.
            assert made["choices"][0]["text"].startswith(outcome.text.replace("\ufffd", ""))
            library.reset()
            generated = library.generate(tokens, temp=0.0, repeat_penalty=1.0)
            assert outcome.token_ids == list(islice(generated, 40))
            assert len(set(outcome.token_ids)) > 3, "one token again and again would prove little"
    library.close()


@each_lineage
def test_the_attention_that_llama_cpp_chooses_says_what_plain_attention_says(
    files: Files, name: str
) -> None:
    first = []
    for flash_attention in (None, False):
        with loaded(files(name), flash_attention=flash_attention) as engine:
            first.append([answers(engine, [prompt], 1)[0].logprobs[0] for prompt in PROMPTS])
    for chosen, plain in zip(*first, strict=True):
        assert chosen.token_ids[0] == plain.token_ids[0]
        np.testing.assert_allclose(chosen.logprobs, plain.logprobs, atol=0.01)


@each_lineage
def test_streams_side_by_side_say_what_each_says_alone(files: Files, name: str) -> None:
    prompts = [prompt + ending for ending in "ab" for prompt in PROMPTS]
    with loaded(files(name), slots=6) as engine:
        alone = [answers(engine, [prompt])[0] for prompt in prompts]
        together = answers(engine, prompts)
    check_same(alone, together)


@each_lineage
def test_whatever_the_cache_lends_changes_nothing(files: Files, name: str) -> None:
    """Prompts that go on, branch off early and late, and come again, with long answers between."""
    chance = random.Random(7)
    trunks = ["".join(chance.choices("abcdefgh ", k=180)) for _ in range(2)]
    prompts = [
        chance.choice(trunks)[: chance.randrange(20, 180)] + chance.choice("xyz") * 3
        for _ in range(14)
    ]
    with loaded(files(name)) as engine:
        found = [answers(engine, [prompt], 100)[0] for prompt in prompts]
        turn = prompts[-1] + found[-1].text
        follow_up = answers(engine, [turn], 100)
    with loaded(files(name), slots=1) as fresh:
        expected = []
        for prompt in (*prompts, turn):
            for held in fresh._cache._all:
                fresh._cache.clear(held)
            expected += answers(fresh, [prompt], 100)
    check_same(expected, found + follow_up)


@each_lineage
@pytest.mark.parametrize("cut", [1, 17])
def test_an_answer_that_moved_is_the_answer_that_would_have_come(
    files: Files, name: str, cut: int
) -> None:
    prompt = greedy(PROMPTS[0])
    with loaded(files(name)) as here, loaded(files(name)) as there:
        (whole,) = drive(here, prompt)
        begun = whole.token_ids[:cut]
        text = b"".join(map(here._vocabulary.piece, begun)).decode(errors="ignore")
        there.submit(Generate("b", prompt.messages, prompt.sampling, begun, text))
        tokens = [token for event in _events(there) for token in getattr(event, "token_ids", ())]
    assert begun + tokens == whole.token_ids


def _events(engine: LlamaEngine) -> list[object]:
    events: list[object] = []
    while engine.busy:
        events += engine.step()
    return events


@pytest.mark.parametrize("name", [name for name in LINEAGES if name != "mamba"])
def test_answers_that_outgrow_the_cache_step_back_and_lose_nothing(files: Files, name: str) -> None:
    prompts = [letter * 120 for letter in "abc"]
    with loaded(files(name), cells=CONTEXT_LENGTH + 256) as engine:
        alone = [answers(engine, [prompt], 250)[0] for prompt in prompts]
        steps_back = 0
        step_back = engine._step_back

        def counted() -> None:
            nonlocal steps_back
            steps_back += 1
            step_back()

        engine._step_back = counted  # type: ignore[method-assign]
        together = answers(engine, prompts, 250)
    assert steps_back
    check_same(alone, together)


@each_lineage
def test_prompts_that_have_nothing_in_common_follow_each_other(files: Files, name: str) -> None:
    prompts = ["a" * 100, "b" * 8, "a" * 100, "b" * 8]
    with loaded(files(name), slots=1) as engine:
        one, other, *again = [answers(engine, [prompt], 80)[0] for prompt in prompts]
    check_same([one, other], again)


@pytest.mark.parametrize("name", ["gemma3", "mamba", "falcon-h1", "lfm2"])
def test_a_model_that_cannot_go_back_goes_on_from_near_the_end_of_a_prompt(
    files: Files, name: str
) -> None:
    prompt = "a b c d e f g h " * 8
    with loaded(files(name), slots=2) as engine:
        (first,) = answers(engine, [prompt], 200)
        (again,) = answers(engine, [prompt], 200)
        (other,) = answers(engine, [prompt + "x"], 200)
        engine._cache._snapshots._limit_bytes = 100
        (anew,) = answers(engine, ["y" + prompt], 200)
        (forgotten,) = answers(engine, ["y" + prompt], 200)
    with loaded(files(name), slots=1) as fresh:
        (expected,) = answers(fresh, [prompt + "x"], 200)
    check_same([first, expected, anew], [again, other, forgotten])
    for outcome, computed in ((again, DISTANCE_TOKENS), (other, DISTANCE_TOKENS + 1)):
        assert outcome.started is not None
        assert outcome.started.prompt_tokens - outcome.started.cached_prompt_tokens <= computed
    assert forgotten.started is not None
    assert forgotten.started.cached_prompt_tokens <= 1, "a copy that is too large is not made"


@each_lineage
def test_the_next_turn_computes_only_what_is_new(files: Files, name: str) -> None:
    with loaded(files(name)) as engine:
        (first,) = answers(engine, [PROMPTS[0]], 20)
        (other,) = answers(engine, [PROMPTS[1]], 20)
        messages = greedy(PROMPTS[0]).messages
        # As text, an answer of random tokens need not become the same tokens again.
        tokens = engine._prompts.tokens(messages) + first.token_ids
        held = engine._cache.take([*tokens, 5])
    assert other.end is not None
    assert len(held.tokens) >= len(tokens) - 1
