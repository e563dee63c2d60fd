"""TLS between machines of a pool: how a caller reaches a server, and why it may not, in words."""

from __future__ import annotations

import asyncio
import ssl
import time
from datetime import UTC, datetime
from typing import Final

import grpc

from potluck_proto.errors import NotPaired, Unreachable
from potluck_proto.identity import Identity, Peer, peer_of
from potluck_proto.network import CHANNEL_OPTIONS, join_host_port, split_host_port

FAREWELL: Final = b"potluck refuses: "
"""What a machine of the pool that may not come in reads before the connection ends; then why."""

GREET_SECONDS = 3.0

_WHY = {
    "certificate has expired": "its certificate ran out",
    "certificate is not yet valid": "its certificate does not count yet: compare the clocks",
    "self-signed certificate": "its certificate is self-signed",
    "self signed certificate": "its certificate is self-signed",
    "unsuitable certificate purpose": "its certificate is for another role",
}


def why_not(error: OSError) -> str:
    """Return in a clause why the other side of a handshake was turned away."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _WHY.get(error.verify_message, "its certificate is of another pool")
    if isinstance(error, ssl.SSLError):
        if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "it has no certificate"
        return f"it does not speak as a machine of a pool does ({error.reason or error})"
    if isinstance(error, ConnectionAbortedError):
        return "it did not say who it is in time"
    return "it left before it said who it is"


async def greet(address: str, identity: Identity) -> Peer:
    """Look once who is at an address, so that a refusal has words. gRPC gives none.

    Raises:
        NotPaired: No machine of the pool is there, or it does not let this one in.
        Unreachable: Nothing answers.
        AddressError: It is no address.
    """
    host, port = split_host_port(address)
    try:
        async with asyncio.timeout(GREET_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=identity.client_context(), server_hostname=host
            )
            try:
                peer = peer_of(writer.get_extra_info("peercert"))
                said = await reader.read(1_024)
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as error:
        raise NotPaired(_not_of_the_pool(address, why_not(error))) from error
    except (ssl.SSLError, ConnectionError) as error:
        if isinstance(error, ConnectionRefusedError):
            raise Unreachable(f"Nothing answers at {address}: connection refused.") from error
        raise NotPaired(_turned_away(address, identity)) from error
    except TimeoutError as error:
        raise Unreachable(f"Nothing answers at {address} in {GREET_SECONDS:.0f} s.") from error
    except OSError as error:
        raise Unreachable(f"{address} cannot be reached: {error.strerror or error}.") from error
    if said.startswith(FAREWELL):
        words = "".join(
            filter(str.isprintable, said.removeprefix(FAREWELL).decode(errors="replace"))
        )
        raise NotPaired(f"{address} turned this machine away: {words}. Pair again with an invite.")
    if not said:
        raise NotPaired(_turned_away(address, identity))
    return peer


def channel(address: str, identity: Identity, server_name: str) -> grpc.aio.Channel:
    """Return a channel that connects to one machine of the pool and to no other.

    Args:
        address: HOST:PORT.
        identity: What is shown.
        server_name: The name that the other's certificate must have: `Peer.server_name`.
    """
    credentials = grpc.ssl_channel_credentials(
        identity.authority, identity.key, identity.certificate
    )
    options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", server_name)]
    target = join_host_port(*split_host_port(address))
    return grpc.aio.secure_channel(target, credentials, options=options)


def _not_of_the_pool(address: str, reason: str) -> str:
    return (
        f"The machine at {address} is refused: {reason}. If it is yours, run `potluck invite` here "
        "and `potluck join` there."
    )


def _turned_away(address: str, identity: Identity) -> str:
    ends = datetime.fromtimestamp(identity.ends_unix_seconds, UTC)
    state = "ran out" if identity.ends_unix_seconds < time.time() else "counts until"
    return (
        f"{address} ended the connection when it saw this machine's certificate, which {state} "
        f"{ends:%Y-%m-%d %H:%M} UTC. Compare the clocks, or pair again with an invite."
    )
