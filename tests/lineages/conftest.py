"""Files of every lineage, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lineages.kinds import ENCODERS, LINEAGES, QWEN3_EMBEDDING
from lineages.make import make

CATALOGUE = LINEAGES | ENCODERS | {"qwen3-embedding": QWEN3_EMBEDDING}

Files = Callable[[str], Path]
"""Returns the file of a lineage, by its name in the catalogue."""


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("lineages")

    def file(name: str) -> Path:
        path = folder / f"{name}.gguf"
        if not path.exists():
            make(path, CATALOGUE[name])
        return path

    return file
