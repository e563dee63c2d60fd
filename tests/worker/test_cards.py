"""Cards as drivers describe them. No test machine has one: what is read here has their shapes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from potluck_proto.errors import EngineMissing
from potluck_worker import cards as cards_module
from potluck_worker.cards import Cards, Reading, engine_has_cards, read_kernel_files
from potluck_worker.engines.sizing import HOST, Card, Estimate, Options, Room, Share
from potluck_worker.hardware import Memory
from potluck_worker.pool import MemoryPool

MIB = 2**20
GIB = 2**30
NVIDIA: dict[str, Any] = {
    "id": "CUDA0",
    "name": "NVIDIA GeForce RTX 3090",
    "accelerator": "cuda",
    "memory_total_bytes": 24 * GIB,
    "memory_free_bytes": 23 * GIB,
    "unified": False,
    "bus_id": "0000:01:00.0",
}


@pytest.fixture(autouse=True)
def an_engine_with_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards_module, "engine_has_cards", lambda: True)


def asked(*cards: dict[str, Any]) -> Callable[..., Any]:
    """Return an engine's answer to the question which cards there are."""

    async def ask(verb: str, kind: object) -> tuple[Card, ...]:
        assert verb == "cards"
        return tuple(Card(**card) for card in cards)

    return ask


async def test_what_the_engine_says_counts_where_nothing_else_does() -> None:
    cards = Cards(asked(NVIDIA))
    await cards.look()
    (card,) = cards.known
    assert (card.name, card.accelerator) == ("NVIDIA GeForce RTX 3090", "cuda")
    assert cards.read(card) == Reading(23 * GIB)
    assert cards.need_looks


async def test_an_engine_that_cannot_say_leaves_what_was_known() -> None:
    cards = Cards(asked(NVIDIA))
    await cards.look()

    async def fail(verb: str, kind: object) -> None:
        raise EngineMissing("llama.cpp cannot be loaded.")

    cards._ask = fail
    await cards.look()
    assert len(cards.known) == 1


def test_an_amd_card_is_read_from_the_kernels_files(tmp_path: Path) -> None:
    assert read_kernel_files(tmp_path) is None
    (tmp_path / "mem_info_vram_total").write_text(f"{16 * GIB}\n")
    (tmp_path / "mem_info_vram_used").write_text(f"{3 * GIB}\n")
    (tmp_path / "gpu_busy_percent").write_text("42\n")
    assert read_kernel_files(tmp_path) == Reading(13 * GIB, 0.42)
    sensor = tmp_path / "hwmon" / "hwmon4"
    sensor.mkdir(parents=True)
    (sensor / "temp1_input").write_text("61000\n")
    assert read_kernel_files(tmp_path) == Reading(13 * GIB, 0.42, 61.0)
    (sensor / "power1_average").write_text("87000000\n")
    assert read_kernel_files(tmp_path) == Reading(13 * GIB, 0.42, 61.0, 87.0)


class Nvml:
    """NVIDIA's management library, with one card; as the bindings of version 13 name it all."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"handle {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:
        return f"handle {uuid.decode()}"

    def nvmlDeviceGetName(self, handle: str) -> str:
        return f"NVIDIA card, {handle}"

    def nvmlDeviceGetPciInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(busId="0000:01:00.0")

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: bytes) -> str:
        if bus_id != b"0000:01:00.0":
            raise self.NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(total=24 * GIB, free=10 * GIB, used=14 * GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(pid=77, usedGpuMemory=9 * GIB),
            SimpleNamespace(pid=78, usedGpuMemory=None),  # as on Windows' driver model
        ]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 64

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 212_400


class SilentNvml(Nvml):
    """As with a card that does not say what it draws."""

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        raise self.NVMLError("Not Supported")


@pytest.mark.parametrize(
    ("visible", "handles"),
    [(None, ["handle 0", "handle 1"]), ("1,GPU-5", ["handle 1", "handle GPU-5"]), ("", [])],
)
async def test_where_llama_cpp_knows_no_cards_vllms_are_listed_by_nvidias_library(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, handles: list[str]
) -> None:
    monkeypatch.setattr(cards_module, "engine_has_cards", lambda: False)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(cards_module, "find_spec", lambda name: name)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cards = Cards(asked(NVIDIA))
    await cards.look()
    assert not cards.known
    await cards.look(vllm_has_cards=True)
    assert [card.name for card in cards.known] == [f"NVIDIA card, {handle}" for handle in handles]
    assert [card.id for card in cards.known] == ["CUDA0", "CUDA1"][: len(handles)]
    assert not cards.llama_has_them
    assert all(cards.read(card).memory_free_bytes == 10 * GIB for card in cards.known)


@pytest.mark.parametrize(("nvml", "watts"), [(Nvml(), 212.4), (SilentNvml(), None)])
async def test_an_nvidia_card_is_read_from_its_library(
    monkeypatch: pytest.MonkeyPatch, nvml: Nvml, watts: float | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(cards_module, "find_spec", lambda name: name)
    other = NVIDIA | {"id": "CUDA1", "bus_id": "0000:02:00.0"}
    cards = Cards(asked(NVIDIA, other))
    await cards.look()
    first, second = cards.known
    assert cards.read(first) == Reading(10 * GIB, 0.87, 64, watts, {77: 9 * GIB})
    # One that the library does not know is as the engine said.
    assert cards.read(second) == Reading(23 * GIB)


def test_an_engine_for_the_processor_alone_is_not_asked_for_cards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    libraries = tmp_path / "lib"
    libraries.mkdir()
    for name in ("libggml.so", "libggml.so.0", "libggml-base.so", "libggml-cpu.so", "libllama.so"):
        (libraries / name).touch()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(cards_module, "find_spec", lambda name: found)
    assert not engine_has_cards()
    (libraries / "libggml-cuda.so").touch()
    assert engine_has_cards()
    monkeypatch.setattr(cards_module, "find_spec", lambda name: None)
    assert not engine_has_cards()


# --- the account of a card ---


@dataclass
class Engine:
    """What the account needs to know of an engine's process."""

    process_id: int = 0
    loaded: object = None


@dataclass
class Rig:
    """A host and a card, of which a test says what is free."""

    free: Memory = field(default_factory=lambda: Memory(32 * GIB, 16 * GIB))
    card: Card = field(default_factory=lambda: Card(**NVIDIA))
    reading: Reading = field(default_factory=lambda: Reading(20 * GIB))

    def pool(self) -> MemoryPool:
        cards = Cards(asked())
        cards.known = (self.card,)
        cards.read = lambda card: self.reading  # type: ignore[method-assign]
        return MemoryPool(
            cards, margin_bytes=GIB, card_margin_bytes=GIB // 2, measure=lambda: self.free
        )


def estimate(host_bytes: int, card_bytes: int) -> Estimate:
    return Estimate(
        Options(4096, 1, "f16", 37), (Share(HOST, host_bytes), Share("CUDA0", card_bytes))
    )


def test_a_card_has_an_account_of_its_own() -> None:
    pool = Rig().pool()
    assert pool.room() == Room({HOST: 15 * GIB, "CUDA0": int(19.5 * GIB)})
    pool.book("m", estimate(GIB, 6 * GIB), Engine())  # type: ignore[arg-type]
    assert pool.room() == Room({HOST: 14 * GIB, "CUDA0": int(13.5 * GIB)})
    assert pool.room(without="m") == Room({HOST: 15 * GIB, "CUDA0": int(19.5 * GIB)})
    pool.release("m")
    assert pool.room().free_bytes["CUDA0"] == int(19.5 * GIB)


def test_what_a_driver_says_of_a_process_is_not_counted_twice() -> None:
    rig = Rig()
    pool = rig.pool()
    pool.book("m", estimate(0, 6 * GIB), Engine(77))  # type: ignore[arg-type]
    rig.reading = Reading(16 * GIB, used_by={77: 4 * GIB})
    assert pool.free_bytes()["CUDA0"] == 14 * GIB
    assert pool.room_when_empty().free_bytes["CUDA0"] == int(19.5 * GIB)
    assert pool.look("m")["CUDA0"] == 4 * GIB
    rig.reading = Reading(15 * GIB, used_by={77: 5 * GIB})
    assert pool.look("m")["CUDA0"] == 5 * GIB


def test_where_no_driver_says_it_a_loaded_model_has_what_it_was_promised() -> None:
    rig = Rig()
    pool = rig.pool()
    engine = Engine(77)
    pool.book("m", estimate(0, 6 * GIB), engine)  # type: ignore[arg-type]
    assert pool.free_bytes()["CUDA0"] == 14 * GIB
    engine.loaded, rig.reading = object(), Reading(14 * GIB)
    assert pool.free_bytes()["CUDA0"] == 14 * GIB
    assert "CUDA0" not in pool.look("m")


def test_a_card_that_is_short_is_told_from_a_host_that_is_not() -> None:
    rig = Rig(reading=Reading(200 * MIB))
    pool = rig.pool()
    pool.book("here", estimate(GIB, 0), Engine())  # type: ignore[arg-type]
    assert pool.short_devices(0.5) == ["CUDA0"]
    assert not pool.holds_some("here", "CUDA0")
    assert pool.holds_some("here", HOST)


def test_memory_that_is_shared_is_booked_on_both() -> None:
    shared = Card(**(NVIDIA | {"id": "CUDA0", "accelerator": "metal", "unified": True}))
    pool = Rig(card=shared).pool()
    engine = Engine()
    pool.book("m", estimate(GIB, 6 * GIB), engine)  # type: ignore[arg-type]
    assert pool.free_bytes() == {HOST: 9 * GIB, "CUDA0": 14 * GIB}
    # The engine says what is free of it as if no other process had any.
    engine.loaded = object()
    assert pool.free_bytes()["CUDA0"] == 14 * GIB
    assert pool.room().unified == ("CUDA0",)
