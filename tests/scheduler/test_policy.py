from __future__ import annotations

import pytest

from potluck_proto.errors import (
    ContextOverflow,
    Draining,
    EngineMissing,
    ModelFileError,
    NoNodes,
    NotEnoughMemory,
    PotluckError,
    UnknownModel,
    UnknownNode,
    UnsupportedModel,
    WishesUnmet,
)
from potluck_proto.ids import NodeId
from potluck_scheduler.core.events import Dispatch, NodeUpdated, RequestSubmitted
from potluck_scheduler.core.explanation import Decision, Step, Verdict
from potluck_scheduler.core.model import ModelKey, Node, Request
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.core.speeds import Speed
from scheduler.builders import (
    GIB,
    LARGE,
    OTHER,
    SMALL,
    THIRD,
    loaded,
    model,
    node,
    request,
    warm,
)

NOW = 1_000.0


def scheduler_with(*nodes: Node, **options: object) -> Scheduler:
    scheduler = Scheduler(validate=True, **options)  # type: ignore[arg-type]
    for each in nodes:
        scheduler.handle(NodeUpdated(each), NOW)
    return scheduler


def decide(asked: Request | str, *nodes: Node) -> Decision:
    wanted = request(asked) if isinstance(asked, str) else asked
    return scheduler_with(*nodes).explain(wanted)


GPU = {"accelerator": "cuda", "memory_total_bytes": 8 * GIB, "spill_total_bytes": 32 * GIB}
BOTH = (model(SMALL, 6), model(OTHER, 6))
OTHER_6 = loaded(OTHER, memory_bytes=6 * GIB)
BUSY_6 = loaded(OTHER, busy=1, memory_bytes=6 * GIB)
LEAVING = loaded(ready=False, draining=True)


@pytest.mark.parametrize(
    ("nodes", "chosen", "step"),
    [
        # warm before cold; where the answer would be finished first among warm ones
        ([node("a"), node("b", 8, **warm())], "b", Step.WARM),
        ([node("a", 0, **warm(loaded(busy=3))), node("b", 0, **warm())], "b", Step.WARM),
        (
            [node("a", 0, **warm(loaded(busy=4))), node("b", 0, **warm(loaded(busy=3)))],
            "b",
            Step.WARM,
        ),
        ([node("a", 9, draining=True, **warm()), node("b", 0, **warm())], "b", Step.WARM),
        # cold where it fits
        ([node("a", 1), node("b", 5)], "b", Step.COLD_FITS),
        ([node("a", 9, draining=True), node("b", 5)], "b", Step.COLD_FITS),
        ([node("a", 9, **warm(LEAVING)), node("b", 5)], "b", Step.COLD_FITS),
        ([node("a", 9, model(problem=ModelFileError("x"))), node("b", 3)], "b", Step.COLD_FITS),
        # in the place of an idle model, unless it fits elsewhere
        ([node("a", 1, *BOTH, **warm(OTHER_6))], "a", Step.AFTER_EVICTION),
        (
            [node("a", 1, *BOTH, **warm(OTHER_6)), node("b", 7, *BOTH)],
            "b",
            Step.COLD_FITS,
        ),
        # a part of it beside the card, where nothing holds it whole
        (
            [node("a", 8, model(SMALL, 20), spill_free_bytes=30 * GIB, **GPU)],
            "a",
            Step.PARTLY_OFFLOADED,
        ),
        (
            [
                node("a", 8, model(SMALL, 12), spill_free_bytes=30 * GIB, **GPU),
                node("b", 14, model(SMALL, 12)),
            ],
            "b",
            Step.COLD_FITS,
        ),
        # in the queue: all slots are taken, or a busy model holds the memory
        ([node("a", 0, **warm(loaded(busy=4)))], "", Step.QUEUED),
        ([node("a", 1, *BOTH, **warm(BUSY_6))], "", Step.QUEUED),
        ([node("a", 0, **warm(loaded(ready=False, load_fraction=0.5)))], "", Step.QUEUED),
        ([node("a", 0, **warm(LEAVING))], "", Step.QUEUED),
    ],
)
def test_the_first_step_that_finds_a_place_decides(
    nodes: list[Node], chosen: str, step: Step
) -> None:
    explanation = decide("small", *nodes).explanation
    assert (explanation.node_name, explanation.step) == (chosen, step)
    assert {candidate.node_name for candidate in explanation.candidates} == {n.name for n in nodes}
    assert explanation.others == 0


@pytest.mark.parametrize(
    ("nodes", "asked", "error", "part"),
    [
        ([], "small", NoNodes, "potluck up"),
        ([node("a")], "smal", UnknownModel, "Did you mean small:Q4_K_M"),
        ([node("a")], "zzz", UnknownModel, "There are: small:Q4_K_M"),
        ([node("a")], request(nodes=("c", "d")), UnknownNode, "'c' or 'd'. There are: a"),
        ([node("a", 1), node("b", 0.5)], "small", NotEnoughMemory, "a has 1.0 of 16.0 GiB free"),
        ([node("a", 1), node("b", 0.5)], "small", NotEnoughMemory, "a comes nearest and lacks 1.0"),
        ([node("a", 1)], "small", NotEnoughMemory, "`potluck fit small:Q4_K_M` says what would"),
        (
            [node("a", 3, model(SMALL, 2), model(LARGE, 20))],
            "small:Q8_0",
            NotEnoughMemory,
            "small:Q4_K_M would fit",
        ),
        ([node("a", draining=True)], "small", Draining, "a is being drained"),
        (
            [node("a", 8, model(problem=EngineMissing("Install it.")))],
            "small",
            EngineMissing,
            "Install it.",
        ),
        (
            [node("a", 8, model(embeds_only=True))],
            "small",
            UnsupportedModel,
            "small:Q4_K_M embeds texts and cannot chat",
        ),
        (
            [node("a", 8, model(engines=(), architecture="opt", format="safetensors"))],
            "small",
            EngineMissing,
            "(opt, safetensors) needs vLLM, and a has it not",
        ),
        (
            [node("a"), node("b")],
            request(context_tokens=20_000),
            ContextOverflow,
            "Up to 8,192 tokens would work",
        ),
        (
            [node("a"), node("b")],
            request(tags=("licence:commercial",)),
            WishesUnmet,
            "a has it under the licence that its file does not name",
        ),
        (
            [node("a", 8, model(licence="cc-by-nc-4.0"))],
            request(tags=("licence:commercial",)),
            WishesUnmet,
            "a has it under the licence cc-by-nc-4.0",
        ),
        ([node("a")], request(tags=("quiet",)), WishesUnmet, "a lacks the tag quiet"),
        ([node("a"), node("b", 8, model(OTHER))], request(nodes=("b",)), WishesUnmet, "a is not b"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_would_work(
    nodes: list[Node], asked: Request | str, error: type[PotluckError], part: str
) -> None:
    decision = decide(asked, *nodes)
    assert type(decision.error) is error
    assert part in decision.error.message
    assert decision.step is Step.REFUSED


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (request(nodes=("b",)), "b"),
        (request(tags=("node:b",)), "b"),
        (request(tags=("fast",)), "c"),
        (request(tags=("licence:commercial",)), "c"),
        (request(tags=("license:cc-by-nc-4.0",)), "b"),
        (request(context_tokens=9_000), "d"),
    ],
)
def test_only_nodes_that_meet_the_wishes_are_chosen(asked: Request, chosen: str) -> None:
    nodes = (
        node("a", 12, model(licence="other")),
        node("b", 3, model(licence="cc-by-nc-4.0")),
        node("c", 3, model(licence="bigcode-openrail-m", commercial=True), tags=("fast",)),
        node("d", 3, model(context_length=16_384)),
    )
    explanation = decide(asked, *nodes).explanation
    assert explanation.node_name == chosen
    rejected = [c for c in explanation.candidates if c.verdict is Verdict.REJECTED]
    assert len(rejected) == 3
    assert all(candidate.reason for candidate in rejected)


@pytest.mark.parametrize(
    ("typed", "free_gib", "quantization"),
    [
        ("small", 8, "Q8_0"),
        ("small", 3, "Q4_K_M"),
        ("SMALL:q4_k_m", 8, "Q4_K_M"),
        ("small-Q4_K_M", 8, "Q4_K_M"),
        ("small:Q8_0", 8, "Q8_0"),
    ],
)
def test_a_name_without_a_quantization_means_the_best_that_fits(
    typed: str, free_gib: float, quantization: str
) -> None:
    both = node("a", free_gib, model(SMALL, 2), model(LARGE, 4))
    assert decide(typed, both).explanation.model.quantization == quantization


def test_the_best_that_fits_stays_the_same_when_it_is_the_one_in_memory() -> None:
    full = node("a", 1, model(SMALL, 2), model(LARGE, 4), **warm(loaded(LARGE, memory_bytes=G4)))
    assert decide("small", full).explanation.model == LARGE


def speeds(**tokens_per_second: float) -> dict[tuple[NodeId, ModelKey], Speed]:
    return {
        (NodeId(name), SMALL): Speed().measured(1, 1 / speed)
        for name, speed in tokens_per_second.items()
    }


def test_of_two_warm_nodes_the_one_that_was_measured_to_be_faster_is_taken() -> None:
    nodes = (node("slow", 0, **warm()), node("fast", 0, **warm(loaded(busy=2))))
    scheduler = scheduler_with(*nodes, speeds=speeds(slow=5, fast=50))
    explanation = scheduler.explain(request()).explanation
    assert explanation.node_name == "fast"
    assert explanation.candidates[0].tokens_per_second > 30


def test_a_warm_node_that_knows_the_conversation_is_taken_unless_it_is_much_busier() -> None:
    prefix = tuple(range(10))

    def place(busy: int, asked: tuple[int, ...], later: float = 1.0) -> str:
        scheduler = scheduler_with(node("a", 0, **warm()), node("b", 0, **warm()))
        first = request(name="1", prefix=prefix)
        (dispatch,) = scheduler.handle(RequestSubmitted(first), NOW)
        assert isinstance(dispatch, Dispatch)
        knows = dispatch.decision.explanation.node_name
        other = "b" if knows == "a" else "a"
        slots = 16
        for name, count in ((knows, busy), (other, 0)):
            held = loaded(busy=count, slots=slots)
            scheduler.handle(NodeUpdated(node(name, 0, **warm(held))), NOW + later)
        again = scheduler.explain(request(name="2", prefix=asked)).explanation
        if "knows" in again.summary:
            assert again.node_name == knows
        return "knowing" if again.node_name == knows else "other"

    assert place(2, (*prefix, 10, 11)) == "knowing"
    assert place(4, (*prefix, 10, 11)) == "other"
    assert place(2, (*prefix[:2], *range(100, 120))) == "other"
    assert place(2, prefix, later=400) == "other"


def test_what_is_known_of_a_conversation_is_gone_with_the_model() -> None:
    scheduler = scheduler_with(node("a", 0, **warm()), node("b", 0, **warm(loaded(busy=1))))
    prefix = tuple(range(10))
    scheduler.handle(RequestSubmitted(request(name="1", prefix=prefix)), NOW)
    scheduler.handle(NodeUpdated(node("a", 9)), NOW + 1)
    scheduler.handle(NodeUpdated(node("a", 0, **warm(loaded(busy=2)))), NOW + 2)
    explanation = scheduler.explain(request(name="2", prefix=prefix)).explanation
    assert explanation.node_name == "b"


def test_a_cold_node_is_loaded_only_where_that_is_quicker_than_to_wait() -> None:
    full = loaded(busy=4)
    key = (NodeId("a"), SMALL)
    quick, slow = (Speed(load_seconds=seconds) for seconds in (1.0, 500.0))
    for speed, step in ((quick, Step.COLD_FITS), (slow, Step.QUEUED)):
        scheduler = scheduler_with(
            node("a", 8),
            node("b", 0, **warm(full)),
            speeds={key: speed, (NodeId("b"), SMALL): Speed().measured(4, 0.2)},
        )
        assert scheduler.explain(request()).step is step


G4 = 4 * GIB


def three(*held: object, **facts: object) -> Node:
    models = (model(SMALL, 6), model(OTHER, 3), model(THIRD, 3))
    return node("a", 2, *models, memory_total_bytes=8 * GIB, loaded=held, **facts)


@pytest.mark.parametrize(
    ("held", "evicted"),
    [
        # the one used longest ago, if it is enough
        ((loaded(OTHER, idle_seconds=9, memory_bytes=G4), loaded(THIRD, idle_seconds=5)), [OTHER]),
        ((loaded(OTHER, idle_seconds=9), loaded(THIRD, idle_seconds=5)), [OTHER, THIRD]),
        # never one that is pinned or busy
        ((loaded(OTHER, memory_bytes=G4, pinned=True), loaded(THIRD, memory_bytes=G4)), [THIRD]),
        ((loaded(OTHER, busy=1, memory_bytes=G4), loaded(THIRD, memory_bytes=G4)), [THIRD]),
        # no more than is needed
        (
            (loaded(OTHER, idle_seconds=9, memory_bytes=GIB), loaded(THIRD, memory_bytes=G4)),
            [THIRD],
        ),
    ],
)
def test_idle_unpinned_models_make_room_those_used_longest_ago_first(
    held: tuple[object, ...], evicted: list[ModelKey]
) -> None:
    decision = decide("small", three(*held))
    assert decision.step is Step.AFTER_EVICTION
    assert list(decision.evict) == evicted
    assert "in the place of" in decision.explanation.summary


def test_a_pinned_model_is_not_counted_on_either() -> None:
    decision = decide("small", three(loaded(OTHER, memory_bytes=6 * GIB, pinned=True)))
    assert isinstance(decision.error, NotEnoughMemory)


def test_an_explanation_of_a_large_pool_is_short_and_that_for_a_person_is_whole() -> None:
    nodes = [node(f"n{number}", 8, **warm()) for number in range(50)]
    scheduler = scheduler_with(*nodes)
    whole = scheduler.explain(request()).explanation
    assert (len(whole.candidates), whole.others) == (50, 0)
    (dispatch,) = scheduler.handle(RequestSubmitted(request()), NOW)
    assert isinstance(dispatch, Dispatch)
    short = dispatch.decision.explanation
    assert len(short.candidates) + short.others == 50
    assert len(short.candidates) < 10
