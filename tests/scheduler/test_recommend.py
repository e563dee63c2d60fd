from __future__ import annotations

import pytest

from fakes.worker import FakeWorker
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.catalogue import Row
from potluck_scheduler.core.model import Model, ModelKey, Node
from potluck_scheduler.core.speeds import Speed, Speeds
from potluck_scheduler.recommend import recommend
from potluck_tui.commands.recommend import recommendation_lines
from scheduler.conftest import Pool

GIB = 2**30


def row(name: str, billions: float, active: float = 0, **more: object) -> Row:
    said: dict[str, object] = {
        "name": name,
        "repository": f"maker/{name}",
        "parameters": int(billions * 1e9),
        "active_parameters": int(active * 1e9),
        "context_length": 32768,
        "layers": 32,
        "kv_width": 1024,
        "licence": "mit",
        "uses": ("chat",),
        "source": "x",
        "date": "2026-11-24",
    }
    return Row.model_validate(said | more)


def node(name: str, gibibytes: int, accelerator: str = "cpu", spill: int = 0) -> Node:
    return Node(
        NodeId(name),
        name,
        memory_total_bytes=gibibytes * GIB,
        spill_total_bytes=spill * GIB,
        accelerator=accelerator,
    )


EIGHT = row("m-8b", 8)


@pytest.mark.parametrize(
    ("gibibytes", "quantization"), [(24, "Q8_0"), (8, "Q5_K_M"), (7, "Q4_K_M"), (6, "Q3_K_M")]
)
def test_the_best_scheme_that_fits_is_recommended(gibibytes: int, quantization: str) -> None:
    card = node("card", gibibytes, "cuda")
    (way,) = recommend([EIGHT], [card], Speeds(), 8192)
    assert way.quantization == quantization
    assert not way.partly_offloaded
    assert not recommend([EIGHT], [node("small", 4)], Speeds(), 8192)


def test_a_longer_context_takes_more_and_ends_where_the_model_does() -> None:
    card = node("card", 10, "cuda")
    (short,), (long,) = (recommend([EIGHT], [card], Speeds(), c) for c in (2048, 32768))
    assert short.quantization == "Q8_0"
    assert long.quantization == "Q4_K_M"
    (cut,) = recommend([row("m", 8, context_length=4096)], [card], Speeds(), 100_000)
    assert cut.context_length == 4096


def test_a_card_is_preferred_and_layers_beside_it_are_slower() -> None:
    card, beside = node("card", 8, "cuda"), node("beside", 8, "cuda", spill=64)
    laptop = node("laptop", 64)
    (way,) = recommend([EIGHT], [laptop, card], Speeds(), 8192)
    assert way.node.name == "card"
    (large,) = recommend([row("m-32b", 32)], [beside], Speeds(), 8192)
    assert large.partly_offloaded
    (whole,) = recommend([row("m-32b", 32)], [node("large", 64, "cuda")], Speeds(), 8192)
    assert large.tokens_per_second < whole.tokens_per_second / 3


def test_what_is_quick_enough_comes_first_then_the_largest() -> None:
    rows = [row("m-1b", 1), row("m-70b", 70), row("m-8b", 8), row("moe", 30, 3)]
    ways = recommend(rows, [node("cpu", 128)], Speeds(), 8192)
    assert [way.row.name for way in ways] == ["moe", "m-8b", "m-1b", "m-70b"]
    assert ways[-1].tokens_per_second < 5


def test_what_was_measured_is_said_as_such_and_counts() -> None:
    key = ModelKey("M-8B", "Q8_0")
    card = Node(NodeId("c"), "c", models=(Model(key),), memory_total_bytes=24 * GIB)
    speeds = Speeds({(card.node_id, key): Speed(samples=3, token_seconds=0.02)})
    (way,) = recommend([EIGHT], [card], speeds, 8192)
    assert (way.measured, way.present) == (True, True)
    assert way.tokens_per_second == pytest.approx(50)


def test_only_what_is_good_for_a_use_and_no_node_that_is_drained() -> None:
    rows = [EIGHT, row("coder", 7, uses=("code",))]
    ways = recommend(rows, [node("n", 64)], Speeds(), 0, "code")
    assert [way.row.name for way in ways] == ["coder"]
    drained = Node(NodeId("d"), "d", memory_total_bytes=64 * GIB, draining=True)
    assert not recommend(rows, [drained], Speeds(), 0)


async def test_a_pool_is_recommended_what_fits_it(pool: Pool) -> None:
    await pool.add(FakeWorker("a", "attic"))
    request = pb.RecommendRequest(use="chat")
    response = await pool.client.call(pool.client.stub.Recommend, request)
    found = response.recommendations
    assert found
    assert all(r.memory_needed_bytes <= 8 * GIB for r in found)
    lines = list(recommendation_lines(response, 3))
    assert lines[1].split()[0] == found[0].name
    assert f"potluck pull {found[0].repository}:{found[0].quantization}" in lines[-1]


def test_where_nothing_fits_that_is_said() -> None:
    (line,) = recommendation_lines(pb.RecommendResponse(), 3)
    assert line.startswith("No model")
