"""What a processor draws, from folders laid out as Linux has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from potluck_worker.power import ProcessorPower


class Clock:
    """The time, as a test says it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def zone(tmp_path: Path) -> Callable[..., Path]:
    """Return what adds a zone, or counts on in one."""

    def add(number: str, name: str, microjoules: int) -> Path:
        folder = tmp_path / f"intel-rapl:{number}"
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
        return folder

    return add


def test_processors_are_added_up_and_their_parts_and_the_whole_machine_are_not(
    tmp_path: Path, zone: Callable[..., Path], clock: Clock
) -> None:
    zones = (("0", "package-0", 15), ("1", "package-1", 25), ("0:0", "core", 9), ("2", "psys", 70))
    for number, name, _ in zones:
        zone(number, name, 5_000_000)
    power = ProcessorPower(tmp_path, clock)
    assert power.watts() is None
    clock.now += 2
    for number, name, watts in zones:
        zone(number, name, 5_000_000 + 2_000_000 * watts)
    assert power.watts() == pytest.approx(40)
    clock.now += 0.1  # too soon for another
    assert power.watts() == pytest.approx(40)
    clock.now += 10
    assert power.watts() == 0


def test_a_counter_that_starts_again_counts_on(
    tmp_path: Path, zone: Callable[..., Path], clock: Clock
) -> None:
    zone("0", "package-0", 262_143_328_850 - 4_000_000)
    power = ProcessorPower(tmp_path, clock)
    clock.now += 1
    zone("0", "package-0", 6_000_000)
    assert power.watts() == pytest.approx(10)


def test_nothing_is_known_where_nothing_can_be_read(
    tmp_path: Path, zone: Callable[..., Path], clock: Clock
) -> None:
    assert ProcessorPower(tmp_path / "none", clock).watts() is None
    energy = zone("0", "package-0", 1) / "energy_uj"
    power = ProcessorPower(tmp_path, clock)
    energy.unlink()
    energy.mkdir()  # what cannot be read as a file, whoever asks
    for _ in range(2):
        clock.now += 1
        assert power.watts() is None
    closed = ProcessorPower(tmp_path, clock)
    clock.now += 1
    assert closed.watts() is None
