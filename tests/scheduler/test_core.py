from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from potluck_proto.errors import (
    Draining,
    EngineMissing,
    ModelFileError,
    NoNodes,
    NotEnoughMemory,
    PotluckError,
    UnknownModel,
    UnknownNode,
    UnsupportedModel,
)
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.events import (
    Dispatch,
    NodeLost,
    NodeUpdated,
    RequestEnded,
    RequestSubmitted,
)
from potluck_scheduler.core.model import Decision, Loaded, Model, ModelKey, Node, Request, Step
from potluck_scheduler.core.resolve import default_model
from potluck_scheduler.core.scheduler import Scheduler

GIB = 2**30
SMALL = ModelKey("small", "Q4_K_M")
LARGE = ModelKey("small", "Q8_0")


def model(key: ModelKey = SMALL, needs_gib: float = 2, **facts: object) -> Model:
    bits = {"Q4_K_M": 4.8, "Q8_0": 8.5}.get(key.quantization, 16.0)
    known: dict[str, object] = {"engines": ("llama",), "bits_per_weight": bits} | facts
    return Model(key, memory_needed_bytes=int(needs_gib * GIB), **known)  # type: ignore[arg-type]


def node(name: str, free_gib: float = 8, *models: Model, **facts: object) -> Node:
    return Node(
        NodeId(name),
        name,
        models=models or (model(),),
        memory_free_bytes=int(free_gib * GIB),
        memory_total_bytes=16 * GIB,
        **facts,  # type: ignore[arg-type]
    )


def warm(key: ModelKey = SMALL, slots: int = 4, busy: int = 0, queue: int = 0) -> dict[str, object]:
    return {"loaded": (Loaded(key, slots, busy, queue),)}


def leaving() -> dict[str, object]:
    return {"loaded": (Loaded(SMALL, draining=True),)}


def decide(typed: str, *nodes: Node, only: tuple[str, ...] = ()) -> Decision:
    scheduler = Scheduler(validate=True)
    for each in nodes:
        scheduler.handle(NodeUpdated(each), 0.0)
    return scheduler.explain(Request(GenerationId("g"), typed, only))


@pytest.mark.parametrize(
    ("nodes", "chosen", "step"),
    [
        ([node("a"), node("b", 8, **warm())], "b", Step.WARM),
        ([node("a", 0, **warm(busy=3)), node("b", 0, **warm(busy=1))], "b", Step.WARM),
        ([node("a", 0, **warm(slots=1, busy=1)), node("b", 0, **warm(busy=3))], "b", Step.WARM),
        ([node("a", 0, **warm(busy=4, queue=2)), node("b", 0, **warm(busy=4))], "b", Step.WARM),
        ([node("a", 3), node("b", 5), node("c", 1)], "b", Step.COLD_FITS),
        ([node("a", 9, draining=True), node("b", 5)], "b", Step.COLD_FITS),
        ([node("a", 9, model(), **leaving()), node("b", 5)], "b", Step.COLD_FITS),
        ([node("a", 9, model(problem=ModelFileError("x"))), node("b", 3)], "b", Step.COLD_FITS),
    ],
)
def test_the_first_step_that_finds_a_place_decides(
    nodes: list[Node], chosen: str, step: Step
) -> None:
    explanation = decide("small", *nodes).explanation
    assert (explanation.node_name, explanation.step) == (chosen, step)
    assert {candidate.node_name for candidate in explanation.candidates} == {n.name for n in nodes}


@pytest.mark.parametrize(
    ("nodes", "typed", "error", "part"),
    [
        ([], "small", NoNodes, "potluck up"),
        ([node("a")], "smal", UnknownModel, "Did you mean small:Q4_K_M"),
        ([node("a")], "zzz", UnknownModel, "There are: small:Q4_K_M"),
        ([node("a", 1), node("b", 0.5)], "small", NotEnoughMemory, "a has 1.0 of 16.0 GiB free"),
        ([node("a", 1)], "small", NotEnoughMemory, "`potluck fit small:Q4_K_M` says what would"),
        ([node("a", draining=True)], "small", Draining, "a is being drained"),
        ([node("a", 9, model(), **leaving())], "small", Draining, "a is unloading small:Q4_K_M"),
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
    ],
)
def test_a_refusal_says_what_is_wrong(
    nodes: list[Node], typed: str, error: type[PotluckError], part: str
) -> None:
    decision = decide(typed, *nodes)
    assert type(decision.error) is error
    assert part in decision.error.message
    assert decision.explanation.step is Step.REFUSED


def test_only_the_asked_nodes_are_looked_at() -> None:
    nodes = [node("a", 9), node("b", 3)]
    assert decide("small", *nodes, only=("b",)).explanation.node_name == "b"
    refused = decide("small", *nodes, only=("c",))
    assert isinstance(refused.error, UnknownNode)
    assert "There are: a, b" in refused.error.message


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


def test_the_default_is_a_real_model_that_fits_before_the_starter() -> None:
    starter = model(ModelKey("starter", "Q8_0"), 0.1, starter=True, parameter_count=1)
    real = model(ModelKey("real", "Q4_K_M"), 4, parameter_count=8)
    larger = model(ModelKey("larger", "Q4_K_M"), 6, parameter_count=12)
    huge = model(ModelKey("huge", "Q4_K_M"), 90, parameter_count=70)
    assert default_model([]) == ""
    assert default_model([node("a", 8, starter)]) == "starter:Q8_0"
    assert default_model([node("a", 8, starter, huge)]) == "starter:Q8_0"
    assert default_model([node("a", 8, starter, real, larger, huge)]) == "larger:Q4_K_M"
    broken = model(ModelKey("broken", ""), 0, problem=ModelFileError("x"))
    assert default_model([node("a", 8, starter, broken)]) == "starter:Q8_0"
    assert default_model([node("a", 8, broken)]) == "broken"
    embedder = model(ModelKey("embedder", "F16"), 1, parameter_count=9, embeds_only=True)
    assert default_model([node("a", 8, starter, embedder)]) == "starter:Q8_0"
    loaded = node("a", 8, starter, real, larger, **warm(real.key))
    assert default_model([loaded]) == "real:Q4_K_M"


def test_two_loads_decided_together_do_not_promise_the_same_memory() -> None:
    scheduler = Scheduler(validate=True)
    models = (model(SMALL, 5), model(LARGE, 5))
    scheduler.handle(NodeUpdated(node("a", 8, *models)), 0.0)
    (first,) = scheduler.handle(RequestSubmitted(Request(GenerationId("1"), "small:Q4_K_M")), 0.0)
    (second,) = scheduler.handle(RequestSubmitted(Request(GenerationId("2"), "small:Q8_0")), 0.0)
    (same,) = scheduler.handle(RequestSubmitted(Request(GenerationId("3"), "small:Q4_K_M")), 0.0)
    assert isinstance(first, Dispatch)
    assert isinstance(second.decision.error, NotEnoughMemory)
    assert "3.0 of 16.0 GiB free" in second.decision.error.message
    assert isinstance(same, Dispatch)
    scheduler.handle(RequestEnded(GenerationId("1")), 0.0)
    scheduler.handle(NodeUpdated(node("a", 8, *models)), 0.0)
    (again,) = scheduler.handle(RequestSubmitted(Request(GenerationId("4"), "small:Q8_0")), 0.0)
    assert isinstance(again, Dispatch)


KEYS = [ModelKey("m", bits) for bits in ("Q4_K_M", "Q8_0")]
NODES = st.builds(
    Node,
    node_id=st.sampled_from([NodeId("a"), NodeId("b"), NodeId("c")]),
    name=st.sampled_from(["a", "b", "c"]),
    models=st.lists(
        st.builds(model, st.sampled_from(KEYS), st.floats(0, 8)), unique_by=lambda m: m.key
    ).map(tuple),
    loaded=st.lists(
        st.builds(Loaded, st.sampled_from(KEYS), st.integers(1, 4), st.integers(0, 4)),
        unique_by=lambda loaded: loaded.key,
    ).map(tuple),
    memory_free_bytes=st.integers(0, 8 * GIB),
    memory_total_bytes=st.just(16 * GIB),
    draining=st.booleans(),
)


class AnyPool(RuleBasedStateMachine):
    """Whatever happens, in whatever order, the core's state stays sound."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(validate=True)
        self.placed: list[GenerationId] = []
        self.count = 0

    @rule(node=NODES)
    def a_node_says_how_it_is(self, node: Node) -> None:
        self.scheduler.handle(NodeUpdated(node), 0.0)

    @rule(node_id=st.sampled_from(["a", "b", "c"]))
    def a_node_is_lost(self, node_id: str) -> None:
        self.scheduler.handle(NodeLost(NodeId(node_id)), 0.0)

    @rule(typed=st.sampled_from(["m", "m:Q8_0", "", "other"]))
    def a_prompt_is_submitted(self, typed: str) -> None:
        self.count += 1
        generation_id = GenerationId(str(self.count))
        before = {n.node_id: n for n in self.scheduler.nodes()}
        booked = dict(self.scheduler._booked())
        (instruction,) = self.scheduler.handle(RequestSubmitted(Request(generation_id, typed)), 0.0)
        assert instruction.generation_id == generation_id
        explanation = instruction.decision.explanation
        if isinstance(instruction, Dispatch):
            assert explanation.node_id is not None
            chosen = before[explanation.node_id]
            assert not chosen.draining
            assert chosen.model(explanation.model)
            if explanation.step is Step.COLD_FITS:
                needed = explanation.candidates[0].needed_bytes
                assert booked.get(chosen.node_id, 0) + needed <= chosen.memory_free_bytes
            self.placed.append(generation_id)
        else:
            assert instruction.decision.error is not None
            assert instruction.decision.error.message

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def an_answer_ends(self, data: st.DataObject) -> None:
        generation_id = data.draw(st.sampled_from(self.placed))
        self.placed.remove(generation_id)
        self.scheduler.handle(RequestEnded(generation_id), 0.0)

    @invariant()
    def state_is_bounded(self) -> None:
        assert set(self.scheduler._placed) == set(self.placed)
        assert len(list(self.scheduler.nodes())) <= 3


TestAnyPool = AnyPool.TestCase
TestAnyPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(NODES, unique_by=lambda n: n.node_id, max_size=3))
def test_every_refusal_is_a_sentence(nodes: list[Node]) -> None:
    decision = decide("m", *nodes)
    text = decision.error.message if decision.error else decision.explanation.summary
    assert text
    assert "None" not in text
