"""What all rings of tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import aio

# gRPC ends its polling thread with the last of its objects, and waits for ever where a call to a
# process that a test froze or killed is open still. So it stays, as it does in a daemon.
aio.init_grpc_aio()

# What the machine of the tests has besides is no part of them. Those of caches make their own.
os.environ["POTLUCK_WORKER_USE_CACHES"] = "false"


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Yield a temporary folder whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
