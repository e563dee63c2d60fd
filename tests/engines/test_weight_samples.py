from __future__ import annotations

import random
from pathlib import Path

import pytest

from potluck_worker.engines.weight_samples import SAMPLE_BYTES, hash_samples


@pytest.mark.parametrize("size_bytes", [0, 1, SAMPLE_BYTES - 1, SAMPLE_BYTES, 40 * SAMPLE_BYTES])
def test_a_copy_has_the_same_hash_and_other_weights_of_the_size_have_not(
    tmp_path: Path, size_bytes: int
) -> None:
    def made(name: str, seed: int) -> Path:
        path = tmp_path / name
        path.write_bytes(random.Random(seed).randbytes(size_bytes))
        return path

    hashed = hash_samples([made("a", 1)])
    assert hash_samples([made("copy", 1)]) == hashed
    assert (hash_samples([made("other", 2)]) == hashed) == (size_bytes == 0)


def test_each_file_counts_and_so_does_its_end(tmp_path: Path) -> None:
    content = bytes(10 * SAMPLE_BYTES)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(content)
    second.write_bytes(content[:-1] + b"x")
    hashes = {hash_samples(files) for files in ([first], [second], [first, second], [])}
    assert len(hashes) == 4
