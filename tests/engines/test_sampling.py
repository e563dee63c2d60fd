from __future__ import annotations

import pytest

from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import Sampling
from potluck_worker.engines.llama.settings import Settings

FILE = {
    "general.sampling.temp": "0.6",
    "general.sampling.top_k": "20",
    "general.sampling.top_p": "0.9",
    "general.sampling.min_p": "0.0",
}


def decide(asked: Sampling, metadata: dict[str, str] | None = None) -> Settings:
    return Settings.decide(asked, metadata or {}, context_length=1000, vocabulary_size=100)


def decided(asked: Sampling, metadata: dict[str, str]) -> tuple[float, int, float, float]:
    settings = decide(asked, metadata)
    return settings.temperature, settings.top_k, settings.top_p, settings.min_p


def test_what_is_asked_goes_before_what_the_file_recommends_before_the_default() -> None:
    assert decided(Sampling(temperature=0.0, top_k=0), FILE) == (0.0, 0, 0.9, 0.0)
    assert decided(Sampling(), FILE) == (0.6, 20, 0.9, 0.0)
    assert decided(Sampling(), {}) == (0.8, 40, 0.95, 0.05)


@pytest.mark.parametrize("value", ["hot", "nan", "-1", "inf", ""])
def test_an_impossible_recommendation_is_passed_over(value: str) -> None:
    assert decided(Sampling(), {"general.sampling.temp": value}) == (0.8, 40, 0.95, 0.05)


@pytest.mark.parametrize(
    "asked",
    [
        Sampling(temperature=float("nan")),
        Sampling(temperature=float("inf")),
        Sampling(top_k=-1),
        Sampling(top_p=1.01),
        Sampling(min_p=-0.1),
    ],
)
def test_an_impossible_wish_is_refused(asked: Sampling) -> None:
    with pytest.raises(BadRequest, match="cannot be"):
        decide(asked, FILE)


def test_a_seed_is_kept_and_a_missing_one_is_chosen() -> None:
    assert decide(Sampling(seed=7)).seed == 7
    assert decide(Sampling()).seed != decide(Sampling()).seed
