"""A pool in one process: a real scheduler on its socket, and workers that are real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.worker import FakeWorker
from potluck_proto.home import Home
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.daemon import SchedulerDaemon
from potluck_scheduler.settings import SchedulerSettings
from potluck_tui.client import PoolClient
from scheduler.chats import Chats, opened


@dataclass
class Pool:
    """A scheduler, its workers, and a viewer's client."""

    home: Home
    client: PoolClient
    daemon: SchedulerDaemon
    workers: list[FakeWorker] = field(default_factory=list)

    async def add(self, worker: FakeWorker) -> FakeWorker:
        """Start a worker and wait until the scheduler takes work for it."""
        self.workers.append(worker)
        address = await worker.serve(self.home.root / f"{worker.node_id}.sock")
        await self.client.call(self.client.stub.AddNode, pb.AddNodeRequest(address=address))
        await self.until(lambda nodes: self.health(nodes, address) == pb.NODE_HEALTH_READY)
        return worker

    @staticmethod
    def health(nodes: list[pb.Node], address: str) -> pb.NodeHealth.ValueType | None:
        """Return how the scheduler sees the worker at an address."""
        return next((node.health for node in nodes if node.address == address), None)

    async def until(self, condition: Callable[[list[pb.Node]], bool]) -> None:
        """Wait until the pool's nodes are as they should be."""
        async for response in self.client.watch_pool():
            if response is not None and condition(list(response.nodes)):
                return

    async def submit(
        self, content: str, model: str = "echo", chat_id: str = "", **facts: object
    ) -> pb.SubmitResponse:
        """Submit a prompt."""
        request = pb.SubmitRequest(content=content, model=model, chat_id=chat_id, **facts)  # type: ignore[arg-type]
        return await self.client.call(self.client.stub.Submit, request)

    async def until_text(self, generation_id: str, text: str) -> None:
        """Wait until an answer has a text."""
        so_far = ""
        async for event in self.client.attach(generation_id):
            assert event is not None
            so_far += event.delta.text
            if so_far.startswith(text):
                return

    async def answer(self, generation_id: str, from_offset: int = 0) -> tuple[str, types.End]:
        """Follow an answer to its end; the deltas must be contiguous."""
        text = ""
        async for event in self.client.attach(generation_id, from_offset):
            assert event is not None
            if event.HasField("delta"):
                assert event.delta.text_offset == from_offset + len(text)
                text += event.delta.text
            if event.HasField("end"):
                return text, event.end
        raise AssertionError("no end")

    async def healed(self, generation_id: str) -> str:
        """Follow an answer to its end over lost connections; return what a viewer sees of it."""
        text = ""
        async for event in self.client.attach(generation_id):
            if event is not None and event.HasField("delta"):
                assert event.delta.text_offset == len(text)
                text += event.delta.text
        return text

    async def messages(self, chat_id: str) -> list[pb.StoredMessage]:
        """Return a chat's messages."""
        request = pb.GetChatRequest(chat_id=chat_id)
        return list((await self.client.call(self.client.stub.GetChat, request)).messages)

    async def restart(self) -> None:
        """Stop the scheduler and start another on the same home, with the same workers."""
        await self.daemon.stop()
        addresses = [f"unix:{self.home.root / worker.node_id}.sock" for worker in self.workers]
        self.daemon = await start(self.home, workers=addresses)


async def start(home: Home, **settings: object) -> SchedulerDaemon:
    """Start a scheduler in this process."""
    daemon = SchedulerDaemon(home, SchedulerSettings(**settings), validate=True)  # type: ignore[arg-type]
    await daemon.start()
    return daemon


@pytest.fixture
async def pool(short_tmp: Path) -> AsyncIterator[Pool]:
    home = Home(short_tmp)
    home.prepare()
    pool = Pool(home, PoolClient(unix_address(home.scheduler_socket)), await start(home))
    yield pool
    await pool.client.close()
    await pool.daemon.stop()
    await asyncio.gather(*(worker.die() for worker in pool.workers))


@pytest.fixture
async def chats(tmp_path: Path) -> AsyncIterator[Chats]:
    async with opened(tmp_path / "chats.sqlite3") as chats:
        yield chats
