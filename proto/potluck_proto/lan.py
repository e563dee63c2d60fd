"""What machines of one network tell each other over zeroconf, without knowing each other.

A record is a hint where to look and is believed in nothing else: anybody may have written it, and a
malformed one is dropped with a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from zeroconf import InterfaceChoice, NonUniqueNameException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from potluck_proto.errors import ProtocolMismatch
from potluck_proto.network import join_host_port, own_addresses
from potluck_proto.record import SERVICE_TYPE, Record

log = logging.getLogger(__name__)

RESOLVE_MILLISECONDS = 3_000


class Advertiser:
    """Announces one daemon on all networks for as long as it lives."""

    def __init__(self) -> None:
        self._zeroconf: AsyncZeroconf | None = None
        self._told: tuple[Record, str, int] | None = None

    async def tell(self, record: Record, host: str, port: int) -> None:
        """Announce a record, or what is new of it.

        Where the network has no multicast, it says so once and does nothing.

        Args:
            record: What is told.
            host: Where the daemon listens; empty is all networks of this machine.
            port: 0 where it does not listen for other machines.
        """
        info = _describe(record, host, port)
        try:
            if self._zeroconf is None:
                self._zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All)
                await self._zeroconf.async_register_service(info)
            elif self._told != (record, host, port):
                await self._zeroconf.async_update_service(info)
        except (OSError, NonUniqueNameException) as error:
            if self._told is None:
                log.warning("not announced on the network: %s", error or type(error).__name__)
        self._told = (record, host, port)

    async def stop(self) -> None:
        """Say goodbye."""
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()
            self._zeroconf = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A daemon that was announced."""

    record: Record
    address: str
    """HOST:PORT; the port is 0 where it listens for nobody."""

    @property
    def listens(self) -> bool:
        """Say whether it can be called."""
        return not self.address.endswith(":0")


class Browser:
    """Watches the networks for announcements.

    Args:
        seen: Called with each daemon that appears or changes.
        gone: Called with one that took its leave, or fell silent for long.
    """

    def __init__(
        self, seen: Callable[[Sighting], object], gone: Callable[[Sighting], object]
    ) -> None:
        self._seen = seen
        self._gone = gone
        self._known: dict[str, Sighting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self) -> None:
        """Begin to look. Where there is no multicast, say so once and go on without."""
        try:
            self._zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All)
        except OSError as error:
            log.warning("no zeroconf here, only machines that were named are found: %s", error)
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
            if (sighting := self._known.pop(name, None)) is not None:
                self._gone(sighting)
            return
        task = asyncio.ensure_future(self._resolve(zeroconf, name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if not await info.async_request(zeroconf, RESOLVE_MILLISECONDS):
            return
        try:
            sighting = sighting_of(info)
        except (ValueError, ProtocolMismatch) as error:
            log.warning("a record on the network is none of ours: %s", error)
            return
        before = self._known.get(name)
        if before == sighting:
            return
        if before is not None and before.address != sighting.address:
            self._gone(before)
        self._known[name] = sighting
        self._seen(sighting)


def sighting_of(info: AsyncServiceInfo) -> Sighting:
    """Return what an announcement says.

    Raises:
        ValueError: It is malformed.
        ProtocolMismatch: It speaks another version.
    """
    record = Record.from_properties(info.properties)
    addresses = info.parsed_addresses()
    if not addresses:
        raise ValueError("no address")
    return Sighting(record, join_host_port(addresses[0], info.port or 0))


def _describe(record: Record, host: str, port: int) -> AsyncServiceInfo:
    name = f"{record.name[:40].replace('.', '-')}-{record.node_id[:6]}-{record.role[0]}"
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"{name}.{SERVICE_TYPE}",
        port=port,
        properties=record.to_properties(),
        server=f"{record.node_id}.local.",
        parsed_addresses=_addresses(host),
    )


def _addresses(host: str) -> list[str]:
    """Return the addresses that others can reach a listener at."""
    if host in ("", "0.0.0.0", "::"):
        return own_addresses()
    return [socket.gethostbyname(host)] if ":" not in host else [host]
