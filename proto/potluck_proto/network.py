"""Addresses, listeners and channels.

An address is `unix:/path`, `ssh://user@host[:port]` or `host:port`. Local use goes over a unix
socket with mode 0600 in a folder with mode 0700; between machines there is TLS (`tls`, `doors`) or
the user's own ssh (`ssh`), and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import grpc

from potluck_proto.errors import AddressError

SCHEDULER_PORT = 7420
"""Where a scheduler listens for paired clients, unless the settings say otherwise."""

WORKER_PORT = 7421
JOIN_PORT = 7422
"""Where a scheduler listens for machines that join, while an invitation is open."""

MESSAGE_LIMIT_BYTES = 16 * 2**20
"""The largest message either side takes: a whole chat fits, a model file does not."""

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # A broken path is noticed within about two seconds, also while nothing is said.
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A node that returns is tried again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Proxies are for the internet.
    ("grpc.enable_http_proxy", 0),
    # Two channels to one address are two connections: none shares another's fate.
    ("grpc.use_local_subchannel_pool", 1),
]


def server_options(
    message_bytes: int = MESSAGE_LIMIT_BYTES, streams: int | None = None
) -> list[tuple[str, int]]:
    """Return how a server behaves.

    Args:
        message_bytes: The largest message that it takes.
        streams: Calls at once over one connection, of which further ones wait; `None` for any.
    """
    return [
        *([] if streams is None else [("grpc.max_concurrent_streams", streams)]),
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        # A peer that is gone, or frozen, is noticed though it says nothing.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Allow the keepalive of CHANNEL_OPTIONS.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def unix_address(path: Path) -> str:
    """Return the address of a unix socket."""
    return f"unix:{path}"


def split_host_port(address: str, default_port: int = 0) -> tuple[str, int]:
    """Return host and port of `host:port`, `host` or `[v6]:port`. Raises `AddressError`."""
    host, separator, port = address.rpartition(":")
    if not separator or host.endswith(":") or (":" in host and not host.startswith("[")):
        host, port = address, str(default_port)
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not name or "[" in name or "]" in name or not 0 <= number <= 65535:
        raise AddressError(f"{address!r} is not an address; write HOST:PORT, with a port to 65535.")
    return name, number


def is_loopback(host: str) -> bool:
    """Say whether a host, by name or number, is surely this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def join_host_port(host: str, port: int) -> str:
    """Return `host:port`, or `[v6]:port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def own_addresses() -> list[str]:
    """Return the IPv4 addresses by which others may reach this machine, the likeliest first."""
    import ifaddr

    numbers = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        with contextlib.suppress(OSError):
            # Sends nothing: it asks the kernel from which address it would.
            probe.connect(("192.0.2.1", 9))
        likeliest = probe.getsockname()[0]
    others = [number for number in numbers if not is_loopback(number)]
    return sorted(others, key=lambda number: number != likeliest)


def dial(address: str) -> grpc.aio.Channel:
    """Return a channel to an address; it connects, and reconnects, by itself."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


def listen_unix(server: grpc.aio.Server, path: Path) -> None:
    """Make `server` listen on a socket that only this user can open. Call before `start`.

    A socket file left by a process that died is replaced; the caller holds the daemon's lock, so
    nobody listens on it.
    """
    path.unlink(missing_ok=True)
    previous = os.umask(0o177)
    try:
        server.add_insecure_port(unix_address(path))
    except RuntimeError as error:
        raise AddressError(f"Cannot listen on the socket {path} ({error}).") from error
    finally:
        os.umask(previous)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen for other machines."""

    host: str
    """Empty is all networks of this machine, IPv6 as well where there is any."""
    port: int
    """0 for a free one."""
    or_free: bool = False
    """Take any free port where this one is taken."""

    @classmethod
    def read(cls, setting: str, default_port: int) -> Listen:
        """Read a setting: HOST:PORT, HOST, or empty for the default. Raises `AddressError`."""
        if not setting:
            return cls("", default_port, or_free=True)
        return cls(*split_host_port(setting, default_port))

    def open(self) -> socket.socket:
        """Return a socket that listens and does not block. Raises `AddressError`."""
        try:
            listener = self._create(self.port)
        except OSError as error:
            if not (self.or_free and error.errno == errno.EADDRINUSE):
                raise AddressError(
                    f"Cannot listen on {join_host_port(self.host or '*', self.port)} "
                    f"({error.strerror}). Choose another port in the settings, or 0 for any free "
                    "one."
                ) from error
            listener = self._create(0)
        listener.setblocking(False)
        return listener

    def _create(self, port: int) -> socket.socket:
        if not self.host:
            try:
                return socket.create_server(
                    ("::", port), family=socket.AF_INET6, backlog=512, dualstack_ipv6=True
                )
            except (OSError, ValueError) as error:
                if getattr(error, "errno", None) == errno.EADDRINUSE:
                    raise
                # There is no IPv6 here.
                return socket.create_server(("0.0.0.0", port), backlog=512)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server((self.host, port), family=family, backlog=512)
