"""The real vLLM under a Python of its own, as `make test-vllm` sets it up.

Loading takes vLLM half a minute, so all tests share one worker, which keeps what it has loaded.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from checkpoints import make_embedder, make_llama, make_opt
from potluck_proto.home import Home
from potluck_worker.settings import WorkerSettings
from worker.conftest import Worker, running

VLLM_PYTHON = os.environ.get("POTLUCK_TEST_VLLM_PYTHON", "")

collect_ignore_glob = [] if VLLM_PYTHON else ["test_*.py"]


def settings() -> WorkerSettings:
    """Return the settings of a worker that runs vLLM under its Python."""
    return WorkerSettings(
        name="node", vllm_python=Path(VLLM_PYTHON), context_length=512, slots=4, threads=1
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker() -> AsyncIterator[Worker]:
    """Run a worker that has a Llama, an OPT, and a model that embeds."""
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    home = Home(folder)
    home.prepare()
    make_llama(home.models / "llama")
    make_opt(home.models / "opt")
    make_embedder(home.models / "embedder")
    async with running(home, settings()) as worker:
        yield worker
    shutil.rmtree(folder)
