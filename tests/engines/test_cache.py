"""The KV cache: what a prompt finds there, and what goes when cells run out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.shapes import SHAPES, make
from engines.driving import Outcome, ask, drive
from potluck_worker.engines.base import Finished, Load, Produced
from potluck_worker.engines.llama.engine import LlamaEngine

CONTEXT_LENGTH = 512
LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    make(path, SHAPES["tiny"])
    return path


def loaded(model: Path, slots: int, cells: int | None = None) -> LlamaEngine:
    engine = LlamaEngine()
    engine.load(Load(str(model), CONTEXT_LENGTH, slots, kv_cells=cells, threads=1))
    return engine


@pytest.fixture
def engine(model: Path) -> Iterator[LlamaEngine]:
    """Three slots, and cells for one and a half contexts."""
    engine = loaded(model, 3, CONTEXT_LENGTH + CONTEXT_LENGTH // 2)
    yield engine
    engine.close()


@pytest.fixture
def roomy(model: Path) -> Iterator[LlamaEngine]:
    """One slot, and cells for many ended answers."""
    engine = loaded(model, 1, 16 * CONTEXT_LENGTH)
    yield engine
    engine.close()


def computed(outcome: Outcome) -> int:
    """Return the prompt tokens that were computed."""
    assert outcome.started is not None
    return outcome.started.prompt_tokens - outcome.started.cached_prompt_tokens


def greedy(engine: LlamaEngine, prompt: str, tokens: int = 8) -> Outcome:
    (outcome,) = drive(engine, ask(prompt, temperature=0.0, max_tokens=tokens))
    return outcome


def test_a_prompt_that_was_seen_is_computed_once_though_others_came_between(
    roomy: LlamaEngine,
) -> None:
    shared = "x" * 300
    first = greedy(roomy, shared + "one")
    for letter in LETTERS:
        assert computed(greedy(roomy, letter * 200)) == 200
    again = greedy(roomy, shared + "one")
    assert computed(first) == 303
    assert computed(again) == 1
    assert again.token_ids == first.token_ids
    other = greedy(roomy, shared + "two")
    assert computed(other) == 3
    assert computed(greedy(roomy, shared + "one")) == 1, "the branch left the trunk alone"


def test_an_answer_under_way_lends_its_prompt_to_another(engine: LlamaEngine) -> None:
    shared = "x" * 100
    first = ask(shared + "a", "first", temperature=0.0, max_tokens=100)
    engine.submit(first)
    while not any(isinstance(event, Produced) for event in engine.step()):
        pass
    (second,) = drive(engine, ask(shared + "b", "second", temperature=0.0, max_tokens=4))
    assert computed(second) == 1
    alone = greedy(engine, shared + "b", 4)
    assert second.token_ids == alone.token_ids


def test_what_was_reused_changes_nothing(engine: LlamaEngine, model: Path) -> None:
    prompts = ["y" * 50 + letter * 30 for letter in LETTERS]
    shared = [greedy(engine, prompt, 20).token_ids for prompt in prompts]
    fresh = []
    for prompt in prompts:
        other = loaded(model, 1)
        fresh.append(greedy(other, prompt, 20).token_ids)
        other.close()
    assert shared == fresh


def test_ended_answers_go_when_their_cells_are_needed(engine: LlamaEngine) -> None:
    for letter in LETTERS:
        outcome = greedy(engine, letter * 400, 50)
        assert outcome.end is not None
        assert outcome.end.reason == "max_tokens"
    assert computed(greedy(engine, LETTERS[-1] * 400)) == 1, "the newest is still there"
    assert computed(greedy(engine, LETTERS[0] * 400)) == 400, "the oldest went first"


def test_answers_that_outgrow_the_cells_step_back_and_lose_nothing(
    engine: LlamaEngine,
) -> None:
    prompts = [letter * 100 for letter in LETTERS[:3]]
    alone = [greedy(engine, prompt, 300).token_ids for prompt in prompts]
    together = drive(
        engine,
        *(ask(prompt, str(n), temperature=0.0, max_tokens=300) for n, prompt in enumerate(prompts)),
    )
    # Three times 400 tokens are more than the 768 cells, so two of them had to wait.
    assert [outcome.token_ids for outcome in together] == alone
    assert all(outcome.end and outcome.end.reason == "max_tokens" for outcome in together)


def test_a_request_waits_for_cells_and_not_only_for_a_slot(engine: LlamaEngine) -> None:
    engine.submit(ask("a" * 450, "first", temperature=0.0, max_tokens=20))
    engine.submit(ask("b" * 450, "second", temperature=0.0, max_tokens=20))
    engine.step()
    assert (engine.slots_busy, engine.queue_length) == (1, 1)
    ends = []
    while engine.busy:
        ends += [event.request_id for event in engine.step() if isinstance(event, Finished)]
    assert ends == ["first", "second"]


def test_a_cancelled_one_that_waits_ends_and_the_others_go_on(engine: LlamaEngine) -> None:
    engine.submit(ask("a" * 450, "first", temperature=0.0, max_tokens=20))
    engine.submit(ask("b" * 450, "second", temperature=0.0, max_tokens=20))
    engine.step()
    engine.cancel("second")
    ends = [event for event in engine.step() if isinstance(event, Finished)]
    assert [(end.request_id, end.reason) for end in ends] == [("second", "stopped")]
    while engine.busy:
        engine.step()


def test_a_context_overflow_is_said_though_all_slots_are_busy(engine: LlamaEngine) -> None:
    for n in range(3):
        engine.submit(ask("a", str(n), temperature=0.0, max_tokens=300))
    engine.step()
    engine.submit(ask("z" * CONTEXT_LENGTH, "long"))
    ends = [event for event in engine.step() if isinstance(event, Finished)]
    assert [(end.request_id, end.reason) for end in ends] == [("long", "failed")]
    while engine.busy:
        engine.step()
