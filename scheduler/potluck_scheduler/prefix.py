"""Hashes of a conversation's beginnings, by which the core knows where it was read before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from potluck_proto.reasoning import split_thought
from potluck_proto.v1 import types_pb2 as types

BLOCK_BYTES = 256
BLOCKS = 256
"""A conversation is known by its first 64 KiB."""


def prefix_of(conversation: Iterable[types.Message], answer: str = "") -> tuple[int, ...]:
    """Return a hash for each beginning of a conversation, a block longer each.

    Args:
        conversation: The messages.
        answer: What the assistant said to them; its thoughts are not shown to it again.
    """
    text = bytearray()
    for message in conversation:
        text += b"%d\0%b\0" % (message.role, message.content.encode())
        if len(text) > BLOCKS * BLOCK_BYTES:
            break
    if answer:
        said = split_thought(answer).said
        text += b"%d\0%b\0" % (types.ROLE_ASSISTANT, said.encode())
    whole = min(len(text) // BLOCK_BYTES, BLOCKS)
    hasher = hashlib.blake2b(digest_size=8)
    hashes = []
    for number in range(whole):
        hasher.update(text[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
        hashes.append(int.from_bytes(hasher.digest()))
    return tuple(hashes)
