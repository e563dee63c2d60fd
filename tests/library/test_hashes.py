from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from potluck_proto.errors import ModelFileError
from potluck_worker.library.hashes import Hashes


async def test_a_file_is_read_once_and_again_when_it_changed(tmp_path: Path) -> None:
    path, cache = tmp_path / "m.gguf", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    (found,) = await Hashes(cache).all([path])
    assert found.sha256 == hashlib.sha256(b"one").hexdigest()
    assert list(Hashes(cache).known([path])) == [found]
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    again = Hashes(cache)
    assert not again.known([path])
    assert (await again.all([path]))[0].sha256 == hashlib.sha256(b"two").hexdigest()


async def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    hashes = Hashes(tmp_path / "hashes.json")
    assert not hashes.known([tmp_path / "m.gguf"])
    with pytest.raises(ModelFileError, match=r"m\.gguf cannot be read"):
        await hashes.all([tmp_path / "m.gguf"])


def test_a_damaged_cache_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "hashes.json").write_text('{"x": 3}')
    assert not Hashes(tmp_path / "hashes.json").known([])
