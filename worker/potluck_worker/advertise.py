"""Tell the network, over zeroconf, that a worker is here."""

from __future__ import annotations

import logging
import socket

import ifaddr
from zeroconf import InterfaceChoice, NonUniqueNameException
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from potluck_proto.network import is_loopback
from potluck_proto.record import SERVICE_TYPE, WorkerRecord

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


class Advertiser:
    """Announces one worker for as long as it lives.

    A worker that listens on this machine alone is announced on the loopback interface alone, with
    port 0: whoever shares its home reaches it through its local socket.

    Args:
        record: What is told.
        host: Where it listens; empty for the local socket alone.
        port: The TCP port, 0 for none.
    """

    def __init__(self, record: WorkerRecord, host: str, port: int) -> None:
        self._port = port
        self._local = not host or is_loopback(host)
        self._addresses = _addresses(host)
        self._zeroconf: AsyncZeroconf | None = None
        self._info = self._describe(record)

    async def start(self) -> None:
        """Announce. Where the network has no multicast, say so once and go on without."""
        try:
            self._zeroconf = AsyncZeroconf(
                interfaces=[LOOPBACK] if self._local else InterfaceChoice.All
            )
            await self._zeroconf.async_register_service(self._info)
        except (OSError, NonUniqueNameException) as error:
            log.warning("not announced on the network: %s", error or type(error).__name__)

    async def update(self, record: WorkerRecord) -> None:
        """Announce changed facts."""
        if self._zeroconf is not None:
            self._info = self._describe(record)
            await self._zeroconf.async_update_service(self._info)

    async def stop(self) -> None:
        """Say goodbye."""
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()

    def _describe(self, record: WorkerRecord) -> AsyncServiceInfo:
        name = f"{record.name[:40].replace('.', '-')}-{record.node_id[:6]}"
        return AsyncServiceInfo(
            SERVICE_TYPE,
            f"{name}.{SERVICE_TYPE}",
            port=self._port,
            properties=record.to_properties(),
            server=f"{record.node_id}.local.",
            parsed_addresses=self._addresses,
        )


def _addresses(host: str) -> list[str]:
    """Return the addresses that others can reach a listener at."""
    if not host:
        return [LOOPBACK]
    if host not in ("0.0.0.0", "::"):
        return [socket.gethostbyname(host)] if ":" not in host else [host]
    own = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [str(ip) for ip in own if not is_loopback(str(ip))]
