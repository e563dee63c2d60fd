"""Frames on the wire: a 4-byte big-endian length, then a msgpack map.

Decoding checks every field, so that garbage on the pipe is a `FrameError` at the pipe and not a
surprise further in.
"""

from __future__ import annotations

import asyncio
import struct
from typing import BinaryIO, TypeVar

import msgspec

from potluck_worker.engines.base import FromChild, ToChild

FRAME_LIMIT_BYTES = 64 * 2**20
"""More than any prompt that gRPC lets in; a longer length is garbage."""

Decoded = TypeVar("Decoded")

_HEADER = struct.Struct(">I")
_ENCODER = msgspec.msgpack.Encoder()
_TO_CHILD: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_FROM_CHILD: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


class FrameError(Exception):
    """What came over the pipe is no frame. The pipe cannot be used any more."""


def encode(frame: ToChild | FromChild) -> bytes:
    """Return a frame with its length in front."""
    body = _ENCODER.encode(frame)
    return _HEADER.pack(len(body)) + body


def decode_to_child(body: bytes) -> ToChild:
    """Return the frame in `body` as the child reads it. Raises `FrameError`."""
    return _decode(_TO_CHILD, body)


def decode_from_child(body: bytes) -> FromChild:
    """Return the frame in `body` as the daemon reads it. Raises `FrameError`."""
    return _decode(_FROM_CHILD, body)


def _decode(decoder: msgspec.msgpack.Decoder[Decoded], body: bytes) -> Decoded:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FrameError(f"{len(body)} bytes that are no frame: {error}") from error


def _length(header: bytes) -> int:
    (length,) = _HEADER.unpack(header)
    if length > FRAME_LIMIT_BYTES:
        raise FrameError(f"a frame of {length} bytes; the limit is {FRAME_LIMIT_BYTES}")
    return int(length)


def read_blocking(pipe: BinaryIO) -> bytes | None:
    """Return the next frame's body, or `None` at the end of the pipe. For the child."""
    header = pipe.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length = _length(header)
    body = pipe.read(length)
    return body if len(body) == length else None


async def read(pipe: asyncio.StreamReader) -> bytes | None:
    """Return the next frame's body, or `None` at the end of the pipe. For the daemon."""
    try:
        length = _length(await pipe.readexactly(_HEADER.size))
        return await pipe.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
