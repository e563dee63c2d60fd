"""A real worker daemon in this process, with real engine children."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from potluck_proto import network
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.daemon import WorkerDaemon
from potluck_worker.hardware import Memory, measure_memory
from potluck_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub


@dataclass
class Worker:
    """A running worker, and a scheduler's stub for it."""

    home: Home
    daemon: WorkerDaemon
    stub: WorkerServiceAsyncStub

    async def state(self) -> types.NodeState:
        """Return the node as it is now."""
        return (await self.stub.Describe(pb.DescribeRequest())).state

    async def loaded(self, name: str, **options: object) -> types.LoadedModel:
        """Load a model and return how it is held."""
        request = pb.LoadRequest(options=load_options(name, **options))
        responses = [response async for response in self.stub.Load(request)]
        return responses[-1].loaded

    async def ask(
        self, model: str, content: str = "Hi", **sampling: object
    ) -> list[pb.GenerateResponse]:
        """Return all that comes of a prompt."""
        return [
            response async for response in self.stub.Generate(prompt(model, content, **sampling))
        ]


def load_options(model: str, **options: object) -> types.LoadOptions:
    """Return how a model is to be held."""
    return types.LoadOptions(model=model, **options)  # type: ignore[arg-type]


def prompt(model: str, content: str = "Hi", **sampling: object) -> pb.GenerateRequest:
    """Return a request of one question."""
    return pb.GenerateRequest(
        generation_id="g",
        model=model,
        messages=[types.Message(role=types.ROLE_USER, content=content)],
        sampling=types.Sampling(**sampling),  # type: ignore[arg-type]
    )


def text_of(responses: list[pb.GenerateResponse]) -> str:
    """Return the answer's text."""
    return "".join(response.delta.text for response in responses)


def add_fake(home: Home, name: str, content: str = "") -> None:
    """Put a model of the fake engine into the models folder."""
    (home.models / f"{name}.fake.toml").write_text(content)


@pytest.fixture
def home(short_tmp: Path) -> Home:
    home = Home(short_tmp)
    home.prepare()
    return home


@asynccontextmanager
async def running(
    home: Home,
    settings: WorkerSettings | None = None,
    measure: Callable[[], Memory] = measure_memory,
) -> AsyncIterator[Worker]:
    """Run a worker; nothing of it may be left afterwards."""
    daemon = WorkerDaemon(home, settings or WorkerSettings(name="node"), measure=measure)
    await daemon.start()
    async with network.dial(daemon.addresses[0]) as channel:
        yield Worker(home, daemon, pb_grpc.WorkerServiceStub(channel))
    await daemon.stop()
    assert not psutil.Process().children(recursive=True)
    assert not home.worker_socket.exists()


@pytest.fixture
async def worker(home: Home) -> AsyncIterator[Worker]:
    async with running(home) as worker:
        yield worker
