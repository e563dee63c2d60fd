"""How a machine joins a pool: the line that a person carries, and what goes over the wire.

The line holds where the pool's scheduler is, the fingerprint of its authority, and a secret of 128
bits. The joiner goes there and is spoken to first: over TLS it gets the authority's certificate. It
sends nothing before that has the fingerprint of the line, and has signed the certificate with which
the other side speaks TLS. Then it sends a request for a certificate and a proof that it knows the
secret; the secret itself never goes anywhere. The proof covers the request, so it is worth nothing
for another key.

The scheduler keeps the secret's hash, in memory, for ten minutes; it counts once. After five wrong
tries, all open invitations are void.

Each message is one msgpack map of at most 16 KiB, with its length in four bytes before it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgpack

from potluck_proto.errors import AddressError, InviteError
from potluck_proto.identity import Role
from potluck_proto.network import join_host_port, split_host_port

PREFIX = "potluck1"
"""Marks a line, and the version of this protocol."""

ADDRESSES_LIMIT = 4
LINE_LIMIT = 512
MESSAGE_LIMIT_BYTES = 16 * 2**10
SECRET_BYTES = 16

_NOT_OF_A_LINE = re.compile(r"[^a-zA-Z0-9_/.,:\[\]-]")
"""Line ends, quotes, the border of a dialog: what copying brings along."""

_Value = TypeVar("_Value")
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Invite:
    """What stands in a line. Its text is a secret: it is shown to the owner and to nobody else."""

    role: Role
    pool: str
    addresses: tuple[str, ...]
    secret: bytes

    def __repr__(self) -> str:
        """Return no secret."""
        return f"Invite({self.role}, {self.pool})"

    @classmethod
    def new(cls, role: Role, pool: str, hosts: list[str], port: int) -> Invite:
        """Make an invitation with a new secret."""
        addresses = tuple(join_host_port(host, port) for host in hosts[:ADDRESSES_LIMIT])
        return cls(role, pool, addresses, secrets.token_bytes(SECRET_BYTES))

    def line(self) -> str:
        """Return the line."""
        secret = base64.b32encode(self.secret).decode().rstrip("=").lower()
        return "/".join([PREFIX, self.role, ",".join(self.addresses), self.pool, secret])

    @classmethod
    def read(cls, line: str) -> Invite:
        """Read a line, with whatever a terminal or a chat put around it.

        Raises `InviteError`, which never repeats what was read.
        """
        words = _NOT_OF_A_LINE.sub("", line)
        if len(words) > LINE_LIMIT or not words.startswith(PREFIX + "/"):
            raise InviteError(
                "This is no line of `potluck invite`: such a line begins with "
                f"{PREFIX}/. Copy all of it, without the words around it."
            )
        try:
            _, role, addresses, pool, secret = words.split("/")
            invite = cls(
                Role(role),
                pool,
                tuple(join_host_port(*split_host_port(each)) for each in addresses.split(",")),
                base64.b32decode(secret.upper() + "=" * (-len(secret) % 8)),
            )
        except (ValueError, binascii.Error, AddressError):
            invite = None
        if (
            invite is None
            or invite.role not in (Role.WORKER, Role.CLIENT)
            or len(invite.secret) != SECRET_BYTES
            or len(invite.addresses) > ADDRESSES_LIMIT
            or len(pool) != 26
            or not pool.isalnum()
        ):
            raise InviteError(
                "The line of the invitation is damaged or cut. Copy all of it, or make a new one "
                "with `potluck invite`."
            )
        return invite


def hashed(secret: bytes) -> bytes:
    """Return what the scheduler keeps of a secret."""
    return hashlib.sha256(b"potluck invite\0" + secret).digest()


def proof(hashed_secret: bytes, request: bytes) -> bytes:
    """Return the proof that whoever made a request for a certificate knows the secret."""
    return hmac.digest(hashed_secret, b"potluck join\0" + request, "sha256")


async def send(writer: asyncio.StreamWriter, message: Mapping[str, object]) -> None:
    """Send one message."""
    packed = msgpack.packb(message)
    writer.write(_LENGTH.pack(len(packed)) + packed)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> dict[str, object]:
    """Return the next message. Raises `ValueError` for anything else, `EOFError` at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > MESSAGE_LIMIT_BYTES:
        raise ValueError(f"a message of {length} bytes; the limit is {MESSAGE_LIMIT_BYTES}")
    return unpack(await reader.readexactly(length))


def unpack(packed: bytes) -> dict[str, object]:
    """Return a message from its bytes, which anybody may have sent. Raises `ValueError`."""
    try:
        message = msgpack.unpackb(packed, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"not msgpack: {error!r:.80}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise ValueError("not a map of names")
    return message


def value(message: Mapping[str, object], name: str, kind: type[_Value]) -> _Value:
    """Return a value of a message. Raises `ValueError` where it is missing or of another kind."""
    found = message.get(name)
    if not isinstance(found, kind):
        raise ValueError(f"{name} is not {kind.__name__}")  # noqa: TRY004 - it came over the wire
    return found
