"""What all rings of tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# What the machine of the tests has besides is no part of them. Those of caches make their own.
os.environ["POTLUCK_WORKER_USE_CACHES"] = "false"


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Yield a temporary folder whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
