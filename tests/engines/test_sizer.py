from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from bench.fit import full_use
from bench.shapes import SHAPES, make
from engines.asking import fitted, planned
from engines.driving import STARTER
from potluck_worker.engines.base import Load
from potluck_worker.engines.llama import devices
from potluck_worker.engines.llama.devices import GNU, LLVM, MapLayout
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.sizing import HOST, Options, Room
from potluck_worker.footprint import private_bytes
from potluck_worker.measurements import Measurement, Measurements

MIB = 2**20


@pytest.fixture(scope="module")
def repacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose weights llama.cpp copies into other shapes when it loads them."""
    path = tmp_path_factory.mktemp("models") / "tiny-Q4_0.gguf"
    make(path, SHAPES["tiny"], gguf.GGMLQuantizationType.Q4_0)
    return path


@pytest.mark.parametrize(
    "options",
    [
        Options(512, 1, "f16"),
        Options(256, 4, "f16", flash_attention=True),
        Options(512, 2, "f16", flash_attention=False),
    ],
    ids=str,
)
def test_a_dry_run_counts_what_a_load_takes(repacked: Path, options: Options) -> None:
    share = planned(repacked, options).estimate.on(HOST)
    engine = LlamaEngine()
    assert options.context_length and options.slots and options.kv_type
    loaded = engine.load(
        Load(
            str(repacked),
            options.context_length,
            options.slots,
            kv_type=options.kv_type,
            flash_attention=options.flash_attention,
        )
    )
    engine.close()
    assert share.weights_bytes == loaded.weights_bytes
    assert share.kv_cache_bytes == loaded.kv_cache_bytes
    assert loaded.flash_attention is (options.flash_attention is not False)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("starter", Options(1024, 2, "f16")),
        ("starter", Options(2048, 4, "q8_0")),
        ("starter", Options(512, 1, "q8_0")),
        ("tiny", Options(2048, 2, "f16")),
    ],
    ids=str,
)
def test_an_estimate_is_near_and_one_that_learned_is_right(
    model: str, options: Options, tmp_path: Path
) -> None:
    path = STARTER
    if model != "starter":
        path = tmp_path / f"{model}.gguf"
        make(path, SHAPES[model])
    estimate = planned(path, options).estimate
    use = full_use(path, options)
    off_bytes = abs(estimate.total_bytes - use.peak_bytes)
    assert off_bytes <= max(32 * MIB, 0.03 * use.peak_bytes)
    assert use.fullness > 0.95
    measurements = Measurements(tmp_path / "measurements.json", "1")
    measurements.note("file", estimate, Measurement({HOST: use.peak_bytes}, use.fullness))
    again = full_use(path, options)
    learned = measurements.corrected("file", estimate)
    assert abs(learned.total_bytes - again.peak_bytes) <= 0.01 * again.peak_bytes


def test_the_largest_context_that_fits_is_found() -> None:
    needed_bytes = planned(STARTER, Options(1024, 4, "f16")).estimate.total_bytes
    room = Room({HOST: needed_bytes + MIB})
    found = fitted(STARTER, Options(2048, 4, "f16"), room)
    assert not room.holds(found.asked)
    assert found.largest is not None
    assert found.largest.options.context_length == 1024


def test_a_processor_is_no_card() -> None:
    assert devices.cards() == []
    result = subprocess.run(
        [sys.executable, "-m", "potluck_worker.inspect_host", "cards"],
        capture_output=True,
        check=True,
    )
    assert result.stdout == b"[]\n"


@pytest.mark.parametrize("layout", [GNU, LLVM], ids=["gnu", "llvm"])
def test_a_map_is_read_as_each_library_lays_it_out(layout: MapLayout) -> None:
    entries = [(8, 1, 2, 3), (16, 4, 5, 6), (24, 7, 8, 9)]
    nodes = [(ctypes.c_uint64 * 8)() for _ in entries]
    for node, entry in zip(nodes, entries, strict=True):
        node[4:8] = list(entry)
    root, left, right = nodes[1], nodes[0], nodes[2]
    root[layout.left], root[layout.right] = ctypes.addressof(left), ctypes.addressof(right)
    words = [0] * layout.words
    words[layout.root] = ctypes.addressof(root)
    assert sorted(devices.map_entries(words, layout)) == entries
    assert list(devices.map_entries([0] * layout.words, layout)) == []


def test_private_memory_is_what_a_process_takes_and_nobody_else() -> None:
    before = private_bytes(os.getpid())
    taken = b"x" * (64 * MIB)
    grown = private_bytes(os.getpid()) - before
    assert 63 * MIB < grown < 66 * MIB
    del taken
    assert private_bytes(2**22 + 1) == 0
