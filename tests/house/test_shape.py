from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("proto", "scheduler", "tui", "worker", "tests")
HARD_LIMIT_LINES = 600


def sources() -> list[Path]:
    return [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if "_pb2" not in path.name
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= HARD_LIMIT_LINES


def test_pinned_versions_name_no_host() -> None:
    for path in (ROOT / "constraints").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        assert "--index" not in text
        assert "--hash=sha256:" in text
