"""Find workers over zeroconf.

What is on the network may have been put there by anybody: a record is taken for a hint where to
look and never for more, and a malformed one is dropped with a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from zeroconf import InterfaceChoice, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from potluck_proto import network
from potluck_proto.errors import ProtocolMismatch
from potluck_proto.home import Home
from potluck_proto.record import SERVICE_TYPE, WorkerRecord

log = logging.getLogger(__name__)

RESOLVE_MILLISECONDS = 3_000
LOOPBACK = "127.0.0.1"


class Discovery:
    """Watches the network for workers of one cluster.

    Args:
        home: The home, whose own worker is known by its id.
        cluster: The cluster whose workers are meant.
        insecure_lan: Look on all networks, and not on this machine alone.
        found: Called with the address of a worker that appeared.
        gone: Called with the address of one that took its leave.
    """

    def __init__(
        self,
        home: Home,
        cluster: str,
        *,
        insecure_lan: bool,
        found: Callable[[str], object],
        gone: Callable[[str], Awaitable[None]],
    ) -> None:
        self._home = home
        self._cluster = cluster
        self._interfaces = InterfaceChoice.All if insecure_lan else [LOOPBACK]
        self._found = found
        self._gone = gone
        self._known: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self) -> None:
        """Begin to look. Where there is no multicast, say so once and go on without."""
        try:
            self._zeroconf = AsyncZeroconf(interfaces=self._interfaces)
        except OSError as error:
            log.warning("no zeroconf here, only configured workers are found: %s", error)
            return
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._on_change]
        )

    async def stop(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._zeroconf is not None:
            await self._browser.async_cancel()
            await self._zeroconf.async_close()

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            work = self._forget(name)
        else:
            work = self._resolve(zeroconf, name)
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if not await info.async_request(zeroconf, RESOLVE_MILLISECONDS):
            return
        try:
            address = self.address_of(info)
        except (ValueError, ProtocolMismatch) as error:
            log.warning("a record on the network is no worker of ours: %s", error)
            return
        if address is not None:
            self._known[name] = address
            self._found(address)

    async def _forget(self, name: str) -> None:
        if (address := self._known.pop(name, None)) is not None:
            await self._gone(address)

    def address_of(self, info: AsyncServiceInfo) -> str | None:
        """Return where the worker of a record is, `None` for one that is not of this cluster.

        Raises:
            ValueError: The record is malformed.
            ProtocolMismatch: It speaks another version.
        """
        record = WorkerRecord.from_properties(info.properties)
        if record.cluster != self._cluster:
            return None
        if not info.port:
            ours = record.node_id == self._home.node_id()
            return network.unix_address(self._home.worker_socket) if ours else None
        addresses = info.parsed_addresses()
        if not addresses:
            raise ValueError("no address")
        return (
            f"[{addresses[0]}]:{info.port}"
            if ":" in addresses[0]
            else f"{addresses[0]}:{info.port}"
        )
