"""What checkpoints are said to take, without vLLM; `tests/vllm_engine` loads one to compare."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from checkpoints import Shape, make_adapter, make_llama
from engines.asking import ask, fitted, planned
from potluck_worker.engines.sizing import HOST, Options, Room
from potluck_worker.engines.vllm.cards import card_numbers
from potluck_worker.engines.vllm.checkpoint import Checkpoint

SHAPE = Shape(layers=3, width=64, hidden=96, heads=4, kv_heads=2, vocabulary=300)
MIB = 2**20
GIB = 2**30
HELD = Options(512, 4, "f16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_llama(tmp_path / "model", SHAPE)


def weights_of(folder: Path) -> int:
    return Checkpoint.read(folder).file_bytes


def test_on_a_processor_all_is_in_main_memory(folder: Path) -> None:
    plan = planned(folder, HELD)
    (share,) = plan.estimate.shares
    assert share.device_id == HOST
    assert share.weights_bytes == weights_of(folder) + 2 * SHAPE.vocabulary * SHAPE.width
    assert share.kv_cache_bytes == (512 * 4 // 32 + 4) * 32 * 384
    assert share.process_bytes > 400 * MIB
    assert plan.estimate.is_what(HELD)
    assert plan.estimate.layers == 0


def test_a_context_is_shortened_to_what_fits_and_no_further(folder: Path) -> None:
    whole = planned(folder, Options(2048, 4, "f16")).estimate
    room = Room({HOST: whole.total_bytes - MIB})
    found = fitted(folder, Options(2048, 4, "f16"), room)
    assert not room.holds(found.asked)
    assert found.largest is not None
    assert 256 < (found.largest.options.context_length or 0) < 2048
    assert all(room.holds(way) for way in found.instead)
    # vLLM's cache has one kind, so no other is offered.
    assert {way.options.kv_type for way in found.instead} == {"f16"}


@pytest.mark.parametrize(
    ("free", "card"),
    [
        ({"CUDA0": 4 * GIB}, "CUDA0"),
        ({"CUDA0": 4 * GIB, "CUDA1": 8 * GIB}, "CUDA1"),
        ({"ROCm0": 4 * GIB, "Vulkan0": 9 * GIB}, "ROCm0"),
    ],
)
def test_a_card_has_all_but_the_process(folder: Path, free: dict[str, int], card: str) -> None:
    host, share = planned(folder, HELD, Room({HOST: 64 * GIB, **free})).estimate.shares
    assert share.device_id == card
    assert share.weights_bytes == weights_of(folder)
    assert host.weights_bytes == host.kv_cache_bytes == 0 < host.process_bytes


def test_cards_that_are_too_small_alone_share_a_model(folder: Path) -> None:
    ample = Room({HOST: 64 * GIB, "CUDA0": 4 * GIB})
    alone = planned(folder, HELD, ample).estimate.on("CUDA0")
    small = alone.total_bytes - 1
    room = Room({HOST: 64 * GIB, "CUDA0": small, "CUDA1": small})
    estimate = planned(folder, HELD, room).estimate
    assert room.holds(estimate)
    for card in ("CUDA0", "CUDA1"):
        assert estimate.on(card).weights_bytes == alone.weights_bytes // 2
        assert estimate.on(card).kv_cache_bytes == alone.kv_cache_bytes // 2


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (Options(512, 4, "q8_0"), "no KV cache of q8_0"),
        (Options(512, 4, "f16", gpu_layers=3), "gpu_layers"),
        (Options(512, 4, "f16", flash_attention=True), "flash attention"),
        (Options(512, 4, "f16", lora_adapters=("a", "b")), "one LoRA adapter"),
    ],
    ids=str,
)
def test_a_way_that_vllm_has_not_is_refused_by_name(
    folder: Path, options: Options, part: str
) -> None:
    assert part in ask("fit", folder, options)["failure"]["message"]


def test_an_adapter_takes_room_by_its_rank(tmp_path: Path, folder: Path) -> None:
    def weights_with(adapter: Path) -> int:
        options = Options(512, 4, "f16", lora_adapters=(str(adapter),))
        return planned(folder, options).estimate.on(HOST).weights_bytes

    plain = planned(folder, HELD).estimate.on(HOST).weights_bytes
    small = weights_with(make_adapter(tmp_path / "small", folder, rank=4)) - plain
    large = weights_with(make_adapter(tmp_path / "large", folder, rank=16)) - plain
    assert large == 2 * small > 0  # vLLM holds ranks of 8, 16, 32...


class Nvml:
    """NVIDIA's library as vLLM brings it, with two cards; as version 13 of the bindings has it."""

    places = (b"0000:01:00.0", b"0000:41:00.0")

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: bytes) -> int:
        return self.places.index(bus_id)

    def nvmlDeviceGetIndex(self, handle: int) -> int:
        return handle


def test_a_child_is_shown_the_cards_that_it_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert card_numbers(["0000:41:00.0"]) == []  # without vLLM or a driver it sees what there is
    for name in ("vllm", "vllm.third_party"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "vllm.third_party.pynvml", Nvml())
    assert card_numbers(["0000:41:00.0", "0000:01:00.0"]) == ["1", "0"]
    assert card_numbers([]) == []
