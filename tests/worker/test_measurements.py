from __future__ import annotations

from pathlib import Path

import pytest

from potluck_worker.engines.sizing import HOST, Estimate, Options, Share
from potluck_worker.measurements import LONGEST, Measurement, Measurements

SAID = Estimate(Options(4096, 4, "f16"), (Share(HOST, 1000, 500, 300, 200), Share("CUDA0", 700)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "measurements.json"


def took(host_bytes: int, fullness: float, **cards: int) -> Measurement:
    return Measurement({HOST: host_bytes, **cards}, fullness)


def total(estimate: Estimate) -> int:
    return estimate.on(HOST).total_bytes


@pytest.mark.parametrize(
    ("host_bytes", "fullness", "total_bytes"),
    [
        (2100, 0.0, 2100),  # more than was said, though hardly used
        (1900, 0.5, 2000),  # less, but it was not in full use: no reason to say less
        (1900, 0.97, 1900),
        (1100, 1.0, 1100),
        (0, 1.0, 2000),  # nobody could measure it
    ],
)
def test_a_measurement_raises_an_estimate_and_lowers_it_after_full_use(
    path: Path, host_bytes: int, fullness: float, total_bytes: int
) -> None:
    measurements = Measurements(path, "1")
    measurements.note("file", SAID, took(host_bytes, fullness))
    corrected = measurements.corrected("file", SAID)
    assert total(corrected) == total_bytes
    assert corrected.on("CUDA0") == SAID.on("CUDA0")
    assert corrected.on(HOST).weights_bytes == 1000


def test_the_difference_is_looked_for_where_the_engine_knows_least(path: Path) -> None:
    measurements = Measurements(path, "1")
    measurements.note("file", SAID, took(1600, 1.0))
    assert measurements.corrected("file", SAID).on(HOST) == Share(HOST, 1000, 500, 100, 0)


def test_a_cards_use_is_learned_beside_the_hosts(path: Path) -> None:
    measurements = Measurements(path, "1")
    measurements.note("file", SAID, took(2000, 1.0, CUDA0=900))
    assert measurements.corrected("file", SAID).on("CUDA0").total_bytes == 900


def test_peaks_add_up_over_loads(path: Path) -> None:
    measurements = Measurements(path, "1")
    for host_bytes, fullness in ((1700, 0.2), (1850, 1.0), (1600, 0.1)):
        measurements.note("file", SAID, took(host_bytes, fullness))
    assert total(measurements.corrected("file", SAID)) == 1850


@pytest.mark.parametrize(
    "other",
    [
        Options(2048, 4, "f16"),
        Options(4096, 2, "f16"),
        Options(4096, 4, "q8_0"),
        Options(4096, 4, "f16", gpu_layers=3),
        Options(4096, 4, "f16", flash_attention=True),
    ],
    ids=str,
)
def test_another_way_of_holding_a_file_is_another_measurement(path: Path, other: Options) -> None:
    measurements = Measurements(path, "1")
    measurements.note("file", SAID, took(5000, 1.0))
    assert total(measurements.corrected("file", Estimate(other, SAID.shares))) == 2000
    assert total(measurements.corrected("changed file", SAID)) == 2000


def test_measurements_outlive_the_daemon_and_not_the_engine(path: Path) -> None:
    measurements = Measurements(path, "1")
    measurements.note("file", SAID, took(5000, 1.0))
    measurements.save()
    assert total(Measurements(path, "1").corrected("file", SAID)) == 5000
    assert total(Measurements(path, "2").corrected("file", SAID)) == 2000


@pytest.mark.parametrize("content", ["", "{", '{"engine": "1"}', '{"engine": "1", "measured": 3}'])
def test_a_damaged_file_costs_only_what_was_learned(path: Path, content: str) -> None:
    path.write_text(content)
    measurements = Measurements(path, "1")
    assert measurements.corrected("file", SAID) == SAID
    measurements.note("file", SAID, took(5000, 1.0))
    measurements.save()
    assert total(Measurements(path, "1").corrected("file", SAID)) == 5000


def test_no_more_are_kept_than_are_of_use(path: Path) -> None:
    measurements = Measurements(path, "1")
    for number in range(LONGEST + 5):
        measurements.note(f"file {number}", SAID, took(5000, 1.0))
    assert total(measurements.corrected("file 4", SAID)) == 2000
    assert total(measurements.corrected("file 5", SAID)) == 5000


def test_a_file_is_written_only_for_news(path: Path) -> None:
    measurements = Measurements(path, "1")
    measurements.save()
    assert not path.exists()
    measurements.note("file", SAID, took(5000, 1.0))
    measurements.save()
    path.unlink()
    measurements.note("file", SAID, took(4000, 0.5))
    measurements.save()
    assert not path.exists()
