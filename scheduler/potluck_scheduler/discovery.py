"""Which of the machines on the network are this pool's workers, and which are strangers.

A record is a hint where to look. Whether a worker is one of ours shows when it is called; see
`reach`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from potluck_proto.identity import Role
from potluck_proto.ids import NodeId
from potluck_proto.lan import Browser, Sighting
from potluck_proto.v1 import scheduler_pb2 as pb

STRANGERS_LIMIT = 64


class Discovery:
    """Watches the network for workers.

    Args:
        node_id: This machine, whose own worker is dialled at its socket.
        pool: Returns the fingerprint of this pool; empty before it has one.
        found: Called with the address of a worker of the pool that appeared.
        gone: Called with the address of one that took its leave.
        changed: Called when there is another stranger, or one less.
    """

    def __init__(
        self,
        node_id: NodeId,
        pool: Callable[[], str],
        *,
        found: Callable[[str], object],
        gone: Callable[[str], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._pool = pool
        self._found = found
        self._gone = gone
        self._changed = changed
        self._strangers: dict[NodeId, Sighting] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._browser = Browser(self.seen, self.left)

    async def start(self) -> None:
        """Begin to look."""
        await self._browser.start()

    async def stop(self) -> None:
        """Stop looking."""
        await self._browser.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def strangers(self) -> list[pb.Stranger]:
        """Return the machines that run Potluck and are not of this pool."""
        return [
            pb.Stranger(
                name=sighting.record.name,
                address=sighting.address.rpartition(":")[0],
                paired=bool(sighting.record.pool),
            )
            for sighting in self._strangers.values()
        ]

    def seen(self, sighting: Sighting) -> None:
        """Take in a machine that appeared or changed."""
        record = sighting.record
        if record.role is not Role.WORKER or record.node_id == self._node_id:
            return
        if record.pool and record.pool == self._pool():
            self._strangers.pop(record.node_id, None)
            if sighting.listens:
                self._found(sighting.address)
        elif len(self._strangers) < STRANGERS_LIMIT:
            self._strangers[record.node_id] = sighting
        self._changed()

    def left(self, sighting: Sighting) -> None:
        """Take in that a machine went away."""
        self._strangers.pop(sighting.record.node_id, None)
        task = asyncio.ensure_future(self._gone(sighting.address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._changed()
