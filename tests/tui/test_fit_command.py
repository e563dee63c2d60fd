from __future__ import annotations

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.fit_lines import node_lines

MIB = 2**20
GIB = 2**30


def verdict(fits: bool = False, **more: object) -> pb.NodeFit:
    """Return what a node with a card says of a model of 8B parameters."""
    fit = types.Fit(
        fits=fits,
        options=types.LoadOptions(
            model="qwen3-8b",
            quantization="Q8_0",
            context_length=32_768,
            slots=4,
            kv_type="f16",
            gpu_layers=37,
            flash_attention=True,
        ),
        layers=37,
        largest_context_length=9_728,
        training_context_length=40_960,
        **more,  # type: ignore[arg-type]
    )
    fit.devices.add(
        device_id="host",
        name="main memory",
        accelerator=types.ACCELERATOR_CPU,
        weights_bytes=640 * MIB,
        compute_bytes=60 * MIB,
        process_bytes=240 * MIB,
        margin_bytes=256 * MIB,
        free_bytes=24 * GIB,
    )
    fit.devices.add(
        device_id="CUDA0",
        name="NVIDIA GeForce RTX 3090",
        accelerator=types.ACCELERATOR_CUDA,
        weights_bytes=8 * GIB,
        kv_cache_bytes=18 * GIB,
        compute_bytes=310 * MIB,
        process_bytes=400 * MIB,
        margin_bytes=512 * MIB,
        free_bytes=23 * GIB,
    )
    return pb.NodeFit(node_id="a", node_name="gaming-pc", fit=fit)


def test_a_verdict_has_the_numbers_of_each_device_within_80_columns() -> None:
    lines = list(node_lines(verdict()))
    assert lines == [
        "gaming-pc: qwen3-8b:Q8_0 does not fit: it lacks 4.2 GiB of NVIDIA GeForce RTX",
        "  3090.",
        "  context 32,768, 4 at once, KV cache f16, flash attention on, 37 of 37 layers",
        "  on cards; by the engine's dry run",
        "  DEVICE              WEIGHTS  KV CACHE  COMPUTE  MARGIN   NEEDED    FREE",
        "  main memory         640 MiB  0 B       300 MiB  256 MiB  1.2 GiB   24.0 GiB",
        "  NVIDIA GeForce RT…  8.0 GiB  18.0 GiB  710 MiB  512 MiB  27.2 GiB  23.0 GiB",
        "  Largest context that fits: 9,728; it was trained for 40,960.",
    ]
    assert max(map(len, lines)) <= 80


def test_what_fits_instead_is_said_by_what_differs() -> None:
    node = verdict()
    changes: list[dict[str, object]] = [
        {"kv_type": "q8_0"},
        {"quantization": "Q4_K_M", "slots": 1},
        {"context_length": 9_728},
        {"gpu_layers": 20},
    ]
    for change in changes:
        alternative = node.fit.alternatives.add()
        alternative.CopyFrom(node.fit.options)
        alternative.MergeFrom(types.LoadOptions(**change))  # type: ignore[arg-type]
    assert list(node_lines(node))[-5:] == [
        "  These fit instead, the best first:",
        "    KV cache q8_0",
        "    qwen3-8b:Q4_K_M, 1 at once",
        "    context 9,728",
        "    20 of 37 layers on cards, which is slower",
    ]


def test_where_the_sizes_come_from_is_said() -> None:
    assert any("as measured before" in line for line in node_lines(verdict(True, measured=True)))
    node = verdict()
    node.fit.options.engine = "vllm"
    assert any("by what its files say" in line for line in node_lines(node))


def test_what_a_unified_card_holds_is_missing_in_main_memory() -> None:
    node = verdict()
    host, card = node.fit.devices
    host.free_bytes, card.free_bytes, card.unified = 20 * GIB, 30 * GIB, True
    assert "lacks 7.9 GiB of main memory." in next(iter(node_lines(node)))


def test_a_node_that_refuses_says_why() -> None:
    problem = BadRequest("It was trained for 8.\x1b[2J").to_proto()
    node = pb.NodeFit(node_name="attic", problem=problem)
    assert list(node_lines(node)) == ["attic: It was trained for 8.\ufffd[2J"]
