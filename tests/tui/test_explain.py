from __future__ import annotations

import pytest

from potluck_proto.v1 import types_pb2 as types
from potluck_tui.commands.explain import lines_of

GIB = 2**30


def candidate(
    name: str, verdict: types.Verdict.ValueType, reason: str, **facts: object
) -> types.Candidate:
    return types.Candidate(node_name=name, verdict=verdict, reason=reason, **facts)  # type: ignore[arg-type]


CHOSEN = types.Explanation(
    model="qwen3-8b",
    quantization="Q4_K_M",
    step=types.PLACEMENT_STEP_WARM,
    node_name="gaming-pc",
    summary="in memory, 1 of 4 slots busy",
    candidates=[
        candidate(
            "gaming-pc",
            types.VERDICT_CHOSEN,
            "in memory, 1 of 4 slots busy",
            free_bytes=3 * GIB,
            tokens_per_second=51.7,
        ),
        candidate(
            "the-old-laptop-of-my-aunt",
            types.VERDICT_REJECTED,
            "too small: needs 5.1, has 2.0 of 4.0 GiB free\x1b[31m",
            needed_bytes=int(5.1 * GIB),
            free_bytes=2 * GIB,
        ),
    ],
    others=3,
)


def test_a_decision_is_shown_with_every_node_at_80_columns() -> None:
    assert list(lines_of(CHOSEN, 80)) == [
        "An answer of qwen3-8b:Q4_K_M would go to gaming-pc: in memory, 1 of 4 slots",
        "busy.",
        "",
        "NODE              VERDICT  NEEDS    FREE     TOKENS/S  WHY",
        "gaming-pc         chosen   -        3.0 GiB  52        in memory, 1 of 4 slots",
        "                                                       busy",
        "the-old-laptop-o  no       5.1 GiB  2.0 GiB  -         too small: needs 5.1, has",
        "                                                       2.0 of 4.0 GiB free\ufffd[31m",
        "and 3 more nodes",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_longer_than_the_terminal_unless_it_is_very_narrow(width: int) -> None:
    for line in lines_of(CHOSEN, width):
        assert len(line) <= max(width, 80)


def test_a_refusal_is_its_sentence_and_a_wait_says_so() -> None:
    refused = types.Explanation(step=types.PLACEMENT_STEP_REFUSED, summary="No node has it.")
    assert list(lines_of(refused, 80)) == ["No node has it."]
    waits = types.Explanation(
        model="m", step=types.PLACEMENT_STEP_QUEUED, summary="waits for a free slot of m on a"
    )
    assert list(lines_of(waits, 80)) == [
        "An answer of m would wait: it waits for a free slot of m on a."
    ]


def test_what_a_tiny_model_needs_is_more_than_nothing() -> None:
    tiny = candidate("attic", types.VERDICT_POSSIBLE, "", needed_bytes=41 * 2**20)
    (row,) = list(lines_of(types.Explanation(candidates=[tiny]), 80))[-1:]
    assert row.startswith("attic  possible  41 MiB")
