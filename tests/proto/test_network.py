from __future__ import annotations

import socket
from pathlib import Path

import grpc
import pytest

from potluck_proto import network
from potluck_proto.errors import AddressError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("attic-pc", ("attic-pc", 7)),
        ("attic-pc:0", ("attic-pc", 0)),
        ("[::1]:80", ("::1", 80)),
        ("::1", ("::1", 7)),
    ],
)
def test_addresses_are_read(address: str, expected: tuple[str, int]) -> None:
    assert network.split_host_port(address, default_port=7) == expected


@pytest.mark.parametrize("address", ["", ":80", "host:port", "host:70000", "host:-1"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(AddressError, match="HOST:PORT"):
        network.split_host_port(address)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "attic-pc"])
def test_nothing_listens_beyond_this_machine_unless_asked_aloud(host: str) -> None:
    with pytest.raises(AddressError, match="--insecure-lan"):
        network.check_listener(host, insecure_lan=False)
    network.check_listener(host, insecure_lan=True)


@pytest.mark.parametrize("address", ["192.168.1.2:7", "attic-pc:7"])
def test_no_prompt_leaves_this_machine_in_clear_unless_asked_aloud(address: str) -> None:
    with pytest.raises(AddressError, match="no encryption"):
        network.check_peer(address, insecure_lan=False)
    network.check_peer(address, insecure_lan=True)


@pytest.mark.parametrize("address", ["unix:/run/x", "127.0.0.1:7", "localhost:7", "[::1]:7"])
def test_this_machine_may_be_spoken_to(address: str) -> None:
    network.check_peer(address, insecure_lan=False)


async def test_a_busy_port_is_said_with_what_to_do() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        server = grpc.aio.server(options=network.SERVER_OPTIONS)
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}.*another port"):
            network.listen_tcp(server, "127.0.0.1", port)


async def test_the_local_socket_is_for_this_user_alone(short_tmp: Path) -> None:
    server = grpc.aio.server(options=network.SERVER_OPTIONS)
    path = short_tmp / "s.sock"
    path.touch()
    network.listen_unix(server, path)
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o600
    await server.stop(None)
