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


@pytest.mark.parametrize(
    "address", ["", ":80", "host:port", "host:70000", "host:-1", "[:80", "[a", "h[]:80"]
)
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(AddressError, match="HOST:PORT"):
        network.split_host_port(address)


def test_a_busy_port_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}.*another port"):
            network.Listen.read(f"127.0.0.1:{port}", 1).open()


def test_a_usual_port_that_is_busy_is_no_problem_where_nobody_asked_for_it() -> None:
    with socket.create_server(("", 0)) as busy:
        port = busy.getsockname()[1]
        with network.Listen.read("", port).open() as listener:
            assert listener.getsockname()[1] not in (0, port)


async def test_the_local_socket_is_for_this_user_alone(short_tmp: Path) -> None:
    server = grpc.aio.server(options=network.server_options())
    path = short_tmp / "s.sock"
    path.touch()
    network.listen_unix(server, path)
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o600
    await server.stop(None)
