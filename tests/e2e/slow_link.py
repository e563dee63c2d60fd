"""A line of 200 ms of round trip that loses 1 % of what it carries, between two sockets.

The kernel's own emulator is not everywhere, so this relay delays each way by 100 ms. What is lost
comes as late as TCP would send it again, and holds up all behind it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ONE_WAY_SECONDS = 0.1
LOST_SHARE = 0.01
SENT_AGAIN_SECONDS = 0.3
CHUNK_BYTES = 1400


class SlowLink:
    """Carries connections to one socket on to another.

    Args:
        inner: Where the server listens.
        outer: Where who is far away connects.
        loop: Runs it, in another thread than who holds and releases.
    """

    def __init__(self, inner: Path, outer: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._inner, self._outer, self._loop = inner, outer, loop
        self._chance = random.Random(1)
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Let nothing through for now."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Let through what was held."""
        self._loop.call_soon_threadsafe(self._open.set)

    async def run(self, ready: threading.Event) -> None:
        """Carry until it is cancelled."""
        async with await asyncio.start_unix_server(self._accept, self._outer):
            ready.set()
            await asyncio.Event().wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._inner)
        # asyncio's server prints a handler that was cancelled as if it had failed.
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def take() -> None:
            while True:
                data = await reader.read(CHUNK_BYTES)
                lost = self._chance.random() < LOST_SHARE
                late = ONE_WAY_SECONDS + (SENT_AGAIN_SECONDS if lost else 0.0)
                under_way.put_nowait((self._loop.time() + late, data))
                if not data:
                    return

        taking = asyncio.create_task(take())
        data = b"-"
        try:
            while data:
                due, data = await under_way.get()
                await asyncio.sleep(due - self._loop.time())
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            taking.cancel()
            writer.close()


@contextmanager
def slow_link(inner: Path, outer: Path) -> Iterator[SlowLink]:
    """Yield such a line, carried by a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    link = SlowLink(inner, outer, loop)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = asyncio.run_coroutine_threadsafe(link.run(ready), loop)
    assert ready.wait(10.0)
    try:
        yield link
    finally:
        asyncio.run_coroutine_threadsafe(_end(), loop).result()
        assert running.cancelled()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end() -> None:
    """End everything that runs in this loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
