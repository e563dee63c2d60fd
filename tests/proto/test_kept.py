from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from potluck_proto.kept import KeptFile


def test_what_is_written_is_read_and_is_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert KeptFile(path, dict[str, int], "numbers").read() is None
    KeptFile(path, dict[str, int], "numbers").write({"one": 1})
    assert KeptFile(path, dict[str, int], "numbers").read() == {"one": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"one": "no number"}', b"\xff"])
def test_what_cannot_be_read_is_as_good_as_none_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert KeptFile(path, dict[str, int], "numbers").read() is None
    assert f"starting without the numbers in {path}" in caplog.text
