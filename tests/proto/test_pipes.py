from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from potluck_proto.pipes import Pipe, lead_to

STALL_SECONDS = 0.3
MANY_BYTES = 64 * 2**20


@asynccontextmanager
async def talkative(folder: Path) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Yield a port where, through a pipe, a server says many bytes, and whether the pipe ended."""
    ended = asyncio.Event()

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(bytes(MANY_BYTES))
            await writer.drain()
        writer.close()

    path, tasks = folder / "inner", set[asyncio.Task[None]]()

    def welcome() -> Pipe:
        pipe = Pipe(STALL_SECONDS)
        pipe.on_closed = ended.set
        asyncio.get_running_loop().call_soon(
            lambda: tasks.add(asyncio.create_task(lead_to(pipe, path)))
        )
        return pipe

    inner = await asyncio.start_unix_server(talk, path)
    outer = await asyncio.get_running_loop().create_server(welcome, "127.0.0.1", 0)
    async with inner, outer:
        yield outer.sockets[0].getsockname()[1], ended


async def test_a_peer_that_takes_nothing_is_cut_off(short_tmp: Path) -> None:
    async with talkative(short_tmp) as (port, ended):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        # Its transport reads no more than its limit until somebody asks for it.
        await ended.wait()
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(2**20):
                received += len(piece)
        assert received < MANY_BYTES
        writer.close()


async def test_a_peer_that_reads_gets_all(short_tmp: Path) -> None:
    async with talkative(short_tmp) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        received = 0
        while piece := await reader.read(2**20):
            received += len(piece)
        assert received == MANY_BYTES
        writer.close()
