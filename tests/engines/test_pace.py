"""How much of a prompt a step takes, on a simulated machine."""

from __future__ import annotations

import pytest

from potluck_worker.engines.llama.pace import (
    ALONE_SECONDS,
    SHARED_SECONDS,
    SMALLEST_CHUNK_TOKENS,
    TILE_TOKENS,
    Pace,
)

FIXED_SECONDS = 0.011
TOKEN_SECONDS = 0.00135


def seconds(tokens: int) -> float:
    """What a step takes: measured with 135M parameters on two cores."""
    return FIXED_SECONDS + tokens * TOKEN_SECONDS


def settled(decoding: int, prefilling: int) -> tuple[Pace, int]:
    """Return a pace that has seen enough steps, and what it gives to prompts."""
    pace = Pace(seconds(1))
    for _ in range(50):
        pace.learn_decoding(seconds(decoding))
        chunk = pace.prompt_tokens(decoding, prefilling)
        pace.learn_prefill(chunk, seconds(chunk))
    return pace, pace.prompt_tokens(decoding, prefilling)


def test_others_wait_a_tenth_of_a_second_for_a_tile_of_one_prompt() -> None:
    _, chunk = settled(20, 1)
    assert chunk == TILE_TOKENS
    assert seconds(20) + seconds(chunk) <= 1.5 * SHARED_SECONDS


def test_others_wait_twice_as_long_at_most_where_they_are_slower() -> None:
    _, chunk = settled(80, 1)
    assert chunk > SMALLEST_CHUNK_TOKENS
    assert SHARED_SECONDS < seconds(80) + seconds(chunk) <= 2.1 * seconds(80)


def test_many_prompts_get_more_than_one_beside_few_answers() -> None:
    _, one = settled(1, 1)
    _, many = settled(1, 10)
    assert many > one


def test_a_prompt_alone_fills_the_time_that_a_cancellation_may_wait() -> None:
    pace = Pace(seconds(1))
    for _ in range(20):
        chunk = pace.prompt_tokens(0, 1)
        pace.learn_prefill(chunk, seconds(chunk))
    assert seconds(pace.prompt_tokens(0, 1)) == pytest.approx(ALONE_SECONDS, rel=0.1)


def test_a_slow_machine_gets_on_all_the_same() -> None:
    pace = Pace(10.0)
    assert pace.prompt_tokens(1, 1) == SMALLEST_CHUNK_TOKENS


def test_without_prompts_there_is_nothing_to_share() -> None:
    assert Pace(0.01).prompt_tokens(4, 0) == 0
