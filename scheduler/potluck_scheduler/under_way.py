"""Work that several may follow, and that goes on when all of them have left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import aclosing
from typing import Generic, TypeVar

from potluck_proto.pulse import Pulse

log = logging.getLogger(__name__)

News = TypeVar("News")


class UnderWay(Generic[News]):
    """Work of one kind, each piece once at a time.

    Who follows a piece may miss news and always gets the newest, and its end.
    """

    def __init__(self) -> None:
        self._works: dict[Hashable, _Work[News]] = {}

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self._works)

    def follow(
        self, name: Hashable, begin: Callable[[], AsyncGenerator[News, None]]
    ) -> AsyncGenerator[News, None]:
        """Follow the work of a name, which is begun where it is not under way.

        Raises what the work raises.
        """
        if name not in self._works:
            work = self._works[name] = _Work(begin())
            work.task.add_done_callback(lambda task: self._end(name, task))
        return self._works[name].follow()

    def _end(self, name: Hashable, task: asyncio.Task[None]) -> None:
        del self._works[name]
        # Perhaps nobody follows it any more.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("%s ended early: %s", name, error)

    async def close(self) -> None:
        """End all work."""
        tasks = [work.task for work in self._works.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Work(Generic[News]):
    def __init__(self, news: AsyncGenerator[News, None]) -> None:
        self._pulse = Pulse()
        self._count = 0
        self._newest: tuple[News, ...] = ()
        self.task = asyncio.create_task(self._do(news))

    async def _do(self, news: AsyncGenerator[News, None]) -> None:
        try:
            async with aclosing(news):
                async for newest in news:
                    self._newest, self._count = (newest,), self._count + 1
                    self._pulse.beat()
        finally:
            self._pulse.beat()

    async def follow(self) -> AsyncGenerator[News, None]:
        seen = 0
        while True:
            beat = self._pulse.next_beat()
            if self._count > seen:
                seen = self._count
                yield self._newest[0]
            elif self.task.done():
                self.task.result()
                return
            else:
                await asyncio.wait([beat, self.task], return_when=asyncio.FIRST_COMPLETED)
