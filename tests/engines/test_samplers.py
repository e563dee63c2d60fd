from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp as api
from numpy.typing import NDArray

from engines.driving import STARTER, ask, drive
from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import (
    ChatMessage,
    Dry,
    Generate,
    Load,
    Mirostat,
    Produced,
    Sampling,
    TokenLogprobs,
    Xtc,
)
from potluck_worker.engines.llama import sampling
from potluck_worker.engines.llama.candidates import logits_of
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.llama.sampling import Sampler

LONG = "Write me a long story about a house full of computers."
OPEN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""Options that drop nothing."""

FLAT = 10_000.0
"""A temperature at which all tokens that are left are equally likely."""


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaEngine]:
    engine = LlamaEngine()
    engine.load(Load(str(STARTER), context_length=1024, slots=3, threads=1))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def undecided(engine: LlamaEngine) -> NDArray[np.float32]:
    """Return the model's logits at one position, flattened, since this model is rarely in doubt."""
    tokens = engine._vocabulary.tokenize("the a of 7", special=False)
    engine._batch.clear()
    row = engine._batch.add(0, 0, tokens, wants_logits=True)
    assert api.llama_decode(engine._decoder.context, engine._batch.native) == 0
    api.llama_memory_clear(api.llama_get_memory(engine._decoder.context), True)
    found = logits_of(engine._decoder.context, row, engine._vocabulary.size)
    found = np.minimum(found, np.sort(found)[-2] + 0.5)
    return np.asarray(found * 0.6, np.float32)


@pytest.fixture
def logits(undecided: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float32]:
    """Let samplers see the undecided logits, whatever the context has."""
    monkeypatch.setattr(sampling, "logits_of", lambda *_: undecided)
    return undecided


def sampler_of(engine: LlamaEngine, prompt: list[int] | None = None, **options: Any) -> Sampler:
    return engine._samplers.begin(Sampling(**OPEN | options), prompt or [], [])


def drawn(engine: LlamaEngine, count: int, **options: Any) -> list[int]:
    """Return draws at many positions from the same logits, each as the first of its answer."""
    sampler = sampler_of(engine, seed=3, **options)
    tokens = [sampler.sample(engine._decoder.context, 0, index) for index in range(count)]
    sampler.close()
    return tokens


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def nucleus(probabilities: NDArray[np.float64], p: float) -> set[int]:
    order = np.argsort(-probabilities)
    count = int(np.searchsorted(probabilities[order].cumsum(), p)) + 1
    return set(order[:count].tolist())


def typical(probabilities: NDArray[np.float64], p: float) -> set[int]:
    surprise = -np.log(probabilities)
    order = np.argsort(abs(surprise - (probabilities * surprise).sum()))
    count = int(np.searchsorted(probabilities[order].cumsum(), p)) + 1
    return set(order[:count].tolist())


def test_draws_follow_the_models_probabilities(
    engine: LlamaEngine, logits: NDArray[np.float32]
) -> None:
    probabilities = softmax(logits)
    counts = np.bincount(drawn(engine, 4000), minlength=len(logits))
    expected = 4000 * probabilities
    likely = expected > 20
    assert likely.sum() > 5
    deviations = (counts - expected)[likely] / np.sqrt(expected[likely])
    assert abs(deviations).max() < 4


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 7},
        {"top_k": 1000},
        {"top_p": 0.8},
        {"top_p": 0.8, "min_p": 0.002},
        {"top_p": 0.6, "min_p": 0.004},
        {"top_p": 0.0},
        {"min_p": 0.004},
        {"typical_p": 0.2},
        {"typical_p": 0.2, "top_p": 0.9},
        {"top_k": 7, "xtc": Xtc(1.0, 0.02)},
        {"logit_bias": {5: -math.inf}, "top_k": 7},
    ],
    ids=str,
)
def test_a_sampler_leaves_exactly_the_tokens_that_it_should(
    engine: LlamaEngine, logits: NDArray[np.float32], options: dict[str, Any]
) -> None:
    options = dict(options)
    if "logit_bias" in options:
        options["logit_bias"] = {int(logits.argmax()): -math.inf}
    expected = set(range(len(logits)))
    changed = logits.copy()
    for token, bias in options.get("logit_bias", {}).items():
        changed[token] += bias
    probabilities = softmax(changed)
    if "top_k" in options:
        expected &= set(np.argsort(-changed)[: options["top_k"]].tolist())
        kept = np.isin(np.arange(len(changed)), list(expected))
        probabilities = np.where(kept, probabilities, 0) / probabilities[kept].sum()
    if "typical_p" in options:
        expected &= typical(probabilities, options["typical_p"])
        kept = np.isin(np.arange(len(changed)), list(expected))
        probabilities = np.where(kept, probabilities, 0) / probabilities[kept].sum()
    if "top_p" in options:
        expected &= nucleus(probabilities, options["top_p"])
    if "min_p" in options:
        expected &= set(
            np.flatnonzero(probabilities >= options["min_p"] * probabilities.max()).tolist()
        )
    if "xtc" in options:
        above = np.flatnonzero(probabilities >= 0.02)
        assert len(above) > 1
        expected -= set(above[np.argsort(-probabilities[above])][:-1].tolist())
    tokens = drawn(engine, 12 * len(expected), temperature=FLAT, **options)
    assert set(tokens) <= expected
    # Of equally likely tokens, twelve draws each leave out next to none.
    assert len(set(tokens)) >= 0.99 * len(expected)


def test_xtc_drops_the_top_as_often_as_it_is_asked_to(
    engine: LlamaEngine, logits: NDArray[np.float32]
) -> None:
    options = {"top_k": 2, "temperature": FLAT}
    assert softmax(np.sort(logits)[-2:]).min() > 0.05
    top = int(logits.argmax())
    tokens = drawn(engine, 2000, xtc=Xtc(0.5, 0.05), **options)
    # Half of the time it is gone, else it is one of two.
    assert abs(tokens.count(top) / 2000 - 0.25) < 0.04


def test_temperature_sharpens(engine: LlamaEngine, logits: NDArray[np.float32]) -> None:
    top = int(logits.argmax())
    shares = [drawn(engine, 500, temperature=t).count(top) / 500 for t in (0.3, 1.0, 3.0)]
    assert shares[0] > shares[1] > shares[2]
    assert set(drawn(engine, 20, temperature=1e-30)) == {top}
    assert drawn(engine, 1, temperature=0.0) == [top]


@pytest.mark.parametrize("temperature", [0.0, 1e-30])
def test_penalties_are_those_of_the_formula(
    engine: LlamaEngine, logits: NDArray[np.float32], temperature: float
) -> None:
    order = np.argsort(-logits).tolist()
    # The longest ago is outside of the window.
    history = [order[3]] * 9 + [order[0]] * 3 + [order[1]] + [order[2]] * 2
    options = {
        "repetition_penalty": 1.3,
        "frequency_penalty": 0.4,
        "presence_penalty": 0.7,
        "penalty_window": 6,
    }
    changed = logits.copy()
    for token, count in ((order[0], 3), (order[1], 1), (order[2], 2)):
        value = changed[token]
        changed[token] = (value / 1.3 if value > 0 else value * 1.3) - 0.4 * count - 0.7
    sampler = sampler_of(engine, history, temperature=temperature, **options)
    for _ in range(5):
        token = sampler.sample(engine._decoder.context, 0, 0)
        assert token == int(changed.argmax())
        changed[token] = -math.inf
        sampler.close()
        biases = {int(t): -math.inf for t in np.flatnonzero(changed == -math.inf)}
        sampler = sampler_of(engine, history, temperature=temperature, logit_bias=biases, **options)
    sampler.close()


def test_dry_breaks_a_loop_and_its_breakers_let_it_be(
    engine: LlamaEngine, logits: NDArray[np.float32]
) -> None:
    top = int(logits.argmax())
    words = [engine._vocabulary.tokenize(f" {word}", special=False)[0] for word in ("one", "two")]
    history = [*words, top, *words]
    breaker = engine._vocabulary.piece(words[1]).decode()
    greedy = {"temperature": 0.0}
    dry = Dry(50.0, sequence_breakers=())
    for options, prompt, loops in (
        ({}, history, True),
        ({"dry": dry}, history, False),
        ({"dry": dry}, history[1:], True),
        ({"dry": Dry(50.0, allowed_length=1)}, history[1:-1], True),
        ({"dry": Dry(50.0, penalty_window=4)}, history, True),
        ({"dry": Dry(50.0, sequence_breakers=[breaker])}, history, True),
    ):
        sampler = sampler_of(engine, prompt, **greedy, **options)
        assert (sampler.sample(engine._decoder.context, 0, 0) == top) is loops, (options, prompt)
        sampler.close()


@pytest.mark.parametrize("tau", [2.0, 5.0])
def test_mirostat_steers_to_its_surprise(
    engine: LlamaEngine, logits: NDArray[np.float32], tau: float
) -> None:
    sampler = sampler_of(engine, seed=1, temperature=2.0, mirostat=Mirostat(tau, eta=0.3))
    surprises = []
    for index in range(600):
        sampler.accept(sampler.sample(engine._decoder.context, 0, index))
        surprises.append(sampler._surprise)
    sampler.close()
    assert abs(np.mean(surprises[100:]) - tau) < 0.3


def test_every_token_ruled_out_fails_its_own_request_alone(engine: LlamaEngine) -> None:
    nothing = dict.fromkeys(range(engine._vocabulary.size), -math.inf)
    for temperature in (0.0, 1.0):
        bad, good = drive(
            engine,
            ask("hello", "a", temperature=temperature, logit_bias=nothing),
            ask("hello", "b"),
        )
        assert bad.end is not None
        assert bad.end.failure is not None
        assert "leave no token to draw" in bad.end.failure.message
        assert good.end is not None
        assert good.end.reason == "end_of_turn"


WILD: dict[str, Any] = {"temperature": 6.0, "top_k": 0, "top_p": 1.0, "min_p": 0.001}
MOVING: dict[str, dict[str, Any]] = {
    "top_k": {"temperature": 6.0, "top_k": 30},
    "top_p": WILD | {"top_p": 0.9},
    "typical": WILD | {"typical_p": 0.8},
    "repetition": WILD | {"repetition_penalty": 1.5, "penalty_window": 20},
    "frequency": WILD | {"frequency_penalty": 1.0, "presence_penalty": 0.5, "penalty_window": -1},
    "greedy frequency": {"temperature": 0.0, "frequency_penalty": 3.0},
    "dry": WILD | {"dry": Dry(2.0, allowed_length=1)},
    "greedy dry": {"temperature": 0.0, "dry": Dry(2.0, allowed_length=1)},
    "xtc": WILD | {"xtc": Xtc(0.5, 0.01)},
    "bias": WILD | {"logit_bias": {300: 8.0}},
    "grammar": WILD | {"grammar": 'root ::= ([a-z]+ " " [0-9]{1,3} "\\n")+'},
    "greedy grammar": {"temperature": 0.0, "grammar": 'root ::= ([a-z]{1,9} " ")+'},
    "schema": WILD | {"json_schema": '{"type": "array", "items": {"type": "string"}}'},
    "all": WILD
    | {
        "repetition_penalty": 1.1,
        "dry": Dry(1.0),
        "xtc": Xtc(0.3, 0.05),
        "grammar": "root ::= [a-z ]+",
        "logprobs": 2,
    },
}


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each position of an answer the logits that it had first, whatever batch it comes in.

    Batches of other sizes round differently, by which another token may win.
    """
    first: dict[int, NDArray[np.float32]] = {}
    sample = Sampler.sample

    def sample_as_first(self: Sampler, context: Any, row: int, index: int) -> int:
        seen = logits_of(context, row, self._size).copy()
        monkeypatch.setattr(sampling, "logits_of", lambda *_: first.setdefault(index, seen))
        return sample(self, context, row, index)

    monkeypatch.setattr(Sampler, "sample", sample_as_first)


def gone_on(engine: LlamaEngine, asked: Sampling, begun: list[int]) -> list[int]:
    """Return the tokens of an answer that moved here after those of `begun`."""
    text = b"".join(map(engine._vocabulary.piece, begun)).decode(errors="ignore")
    engine.submit(Generate("b", [ChatMessage("user", LONG)], asked, begun, text))
    tokens: list[int] = []
    while engine.busy:
        for event in engine.step():
            if isinstance(event, Produced):
                tokens += event.token_ids
    return tokens


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.usefixtures("unrounded")
def test_an_answer_that_moved_goes_on_as_it_would_have(engine: LlamaEngine, name: str) -> None:
    asked = Sampling(**MOVING[name] | {"seed": 5, "max_tokens": 40})
    (whole,) = drive(engine, Generate("a", [ChatMessage("user", LONG)], asked))
    assert len(whole.token_ids) == 40
    for cut in range(1, 40, 3):
        assert gone_on(engine, asked, whole.token_ids[:cut]) == whole.token_ids[cut:], cut


@pytest.mark.usefixtures("unrounded")
def test_an_answer_that_moved_with_mirostat_goes_on_the_same_way_each_time(
    engine: LlamaEngine,
) -> None:
    asked = Sampling(temperature=6.0, mirostat=Mirostat(), seed=5, max_tokens=30)
    (whole,) = drive(engine, Generate("a", [ChatMessage("user", LONG)], asked))
    first, second = (gone_on(engine, asked, whole.token_ids[:9]) for _ in range(2))
    assert first == second
    assert len(first) == 21


@pytest.mark.parametrize("alternatives", [0, 1, 5, 100])
def test_log_probabilities_are_the_models_own(
    engine: LlamaEngine, logits: NDArray[np.float32], alternatives: int
) -> None:
    expected = np.log(softmax(logits))
    sampler = sampler_of(engine, temperature=0.0, frequency_penalty=1.0, logprobs=alternatives)
    sampler.sample(engine._decoder.context, 0, 0)
    (found,) = sampler.logprobs(7)
    sampler.close()
    assert isinstance(found, TokenLogprobs)
    assert found.token_ids == [7, *np.argsort(-expected)[:alternatives].tolist()]
    assert found.logprobs == pytest.approx(expected[found.token_ids].tolist(), abs=1e-5)


def test_every_token_comes_with_its_log_probabilities_where_they_are_asked_for(
    engine: LlamaEngine,
) -> None:
    engine.submit(ask("hello", "a", temperature=0.0, logprobs=2))
    engine.submit(ask("hello", "b", temperature=0.0))
    while engine.busy:
        for event in engine.step():
            if isinstance(event, Produced) and event.token_ids:
                if event.request_id == "b":
                    assert not event.logprobs
                    continue
                (at,) = event.logprobs
                assert at.token_ids[0] == at.token_ids[1] == event.token_ids[0]
                assert at.logprobs[0] == at.logprobs[1] >= at.logprobs[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dry": Dry(math.nan)}, "dry.multiplier cannot be nan"),
        ({"dry": Dry(1.0, base=math.inf)}, "dry.base cannot be inf"),
        ({"dry": Dry(1.0, sequence_breakers=list("abcdefgh" * 9))}, ""),
        ({"dry": Dry(1.0, sequence_breakers=[str(n) for n in range(65)])}, "65 sequence breakers"),
        ({"xtc": Xtc(math.nan)}, "xtc.probability cannot be nan"),
        ({"mirostat": Mirostat(tau=-1.0)}, "mirostat.tau cannot be -1"),
        ({"logit_bias": {0: math.nan}}, "cannot add nan"),
        ({"logit_bias": {0: math.inf}}, "cannot add inf"),
        ({"logit_bias": {2048: 1.0}}, "token 2048; the vocabulary has 2,048"),
        ({"frequency_penalty": math.inf}, "frequency_penalty cannot be inf"),
        ({"repetition_penalty": 0.0}, "repetition_penalty cannot be 0"),
        ({"typical_p": math.nan}, "typical_p cannot be nan"),
        ({"logprobs": 101}, "logprobs cannot be 101"),
        ({"grammar": 'root ::= "a"', "json_schema": "{}"}, "only one"),
    ],
    ids=str,
)
def test_an_impossible_option_is_refused_by_name(
    engine: LlamaEngine, options: dict[str, Any], message: str
) -> None:
    if not message:
        sampler_of(engine, **options).close()
        return
    with pytest.raises(BadRequest, match=message):
        sampler_of(engine, **options)
