"""Addresses, listeners and channels: who may be reached how.

An address is `unix:/path` or `host:port`. Local use goes over a unix socket with mode 0600 in a
folder with mode 0700. Until machines are paired there is no TLS, so a listener or a worker beyond
this machine is refused unless `insecure_lan` is set.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from pathlib import Path

import grpc

from potluck_proto.errors import AddressError

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

SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # Allow the keepalive of CHANNEL_OPTIONS.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    # A second server on a busy port is an error, not a silent partner.
    ("grpc.so_reuseport", 0),
]

INSECURE_LAN_WARNING = (
    "INSECURE: {what} is open to everyone on the network, without encryption or a password. "
    "Anyone who reaches it can use this machine and read every prompt. "
    "Use it only on a network that you trust entirely."
)


def unix_address(path: Path) -> str:
    """Return the address of a unix socket."""
    return f"unix:{path}"


def split_host_port(address: str, default_port: int = 0) -> tuple[str, int]:
    """Return host and port of `host:port`, `host` or `[v6]:port`. Raises `AddressError`."""
    host, separator, port = address.rpartition(":")
    if not separator or host.endswith(":") or (":" in host and not host.startswith("[")):
        host, port = address, str(default_port)
    number = int(port) if port.isascii() and port.isdigit() else -1
    if not host or not 0 <= number <= 65535:
        raise AddressError(f"{address!r} is not an address; write HOST:PORT, with a port to 65535.")
    return host.strip("[]"), number


def is_loopback(host: str) -> bool:
    """Say whether a host, by name or number, is surely this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listener(host: str, insecure_lan: bool) -> None:
    """Raise `AddressError` for a listener beyond this machine that nobody asked for aloud."""
    if not is_loopback(host) and not insecure_lan:
        raise AddressError(
            f"Listening on {host} would open this machine to the network without a lock. "
            "Listen on 127.0.0.1, or, on a network that you trust entirely, add --insecure-lan."
        )


def check_peer(address: str, insecure_lan: bool) -> None:
    """Raise `AddressError` for a peer beyond this machine that would be spoken to in clear."""
    if address.startswith("unix:"):
        return
    host, _ = split_host_port(address)
    if not is_loopback(host) and not insecure_lan:
        raise AddressError(
            f"{address} is another machine, and there is no encryption to it. "
            "On a network that you trust entirely, start the scheduler with --insecure-lan."
        )


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


def listen_tcp(server: grpc.aio.Server, host: str, port: int) -> int:
    """Make `server` listen on a port, 0 for a free one; return the port. Call before `start`."""
    if port:
        _check_port_free(host, port)
    shown = f"[{host}]" if ":" in host else host
    try:
        return server.add_insecure_port(f"{shown}:{port}")
    except RuntimeError as error:
        raise AddressError(f"Cannot listen on {shown}:{port} ({error}).") from error


def _check_port_free(host: str, port: int) -> None:
    """Say in plain words what gRPC would say in its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressError(
                f"Cannot listen on {host}:{port} ({error.strerror}). "
                "Choose another port with --listen HOST:PORT, or port 0 for any free one."
            ) from error
