from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from potluck_worker import availability, hardware


def test_memory_is_the_machines_without_a_container(tmp_path: Path) -> None:
    memory = hardware.measure_memory(tmp_path)
    assert memory.total_bytes == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    assert hardware.measure_memory(tmp_path).total_bytes == psutil.virtual_memory().total


def test_a_containers_limit_is_the_memory_that_there_is(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    assert hardware.measure_memory(tmp_path) == hardware.Memory(2**30, 2**29)
    (tmp_path / "memory.stat").write_text(
        f"anon 7\ninactive_file {2**27}\nactive_file {2**26}\nshmem 9\n"
    )
    free_bytes = 2**29 + 2**27 + 2**26
    assert hardware.measure_memory(tmp_path) == hardware.Memory(2**30, free_bytes)


def without_engine(monkeypatch: pytest.MonkeyPatch, kind: str, tools: set[str]) -> str:
    monkeypatch.setattr(availability, "find_spec", lambda name: None)
    monkeypatch.setattr(availability, "accelerator_kind", lambda: kind)
    monkeypatch.setattr("shutil.which", lambda name: name if name in tools else None)
    llama = availability.llama_availability()
    assert not llama.available
    return llama.advice


@pytest.mark.parametrize(
    ("kind", "part"),
    [("cuda", "GGML_CUDA=on"), ("rocm", "GGML_HIP=on"), ("metal", "Metal"), ("cpu", "processor")],
)
def test_a_missing_engine_comes_with_what_to_install_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, kind: str, part: str
) -> None:
    advice = without_engine(monkeypatch, kind, {"g++"})
    assert part in advice
    assert "potluck[llama]" in advice
    assert "compiler" not in advice


def test_a_missing_compiler_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "apt install build-essential" in without_engine(monkeypatch, "cpu", set())
