"""An engine child that breaks the contract of its pipe: `python child.py SCENARIO --fd N …`.

For tests of whoever keeps engine children: run it in the place of the real one.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from potluck_worker import child
from potluck_worker.engines import frames
from potluck_worker.engines.base import (
    Cancel,
    Embedded,
    Failure,
    Finished,
    FromChild,
    Generate,
    Loaded,
    LoadFailed,
    Loading,
    Produced,
    Started,
    ToChild,
)

LOADED = Loaded(2**20, 0, 0, 4096, 4)


class Pipe:
    """The child's end of its pipe."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._reader: BinaryIO = pipe.makefile("rb")

    def hear(self) -> ToChild:
        """Return the next frame."""
        body = frames.read_blocking(self._reader)
        assert body is not None
        return frames.decode_to_child(body)

    def say(self, *said: FromChild | ToChild) -> None:
        """Send frames, right or wrong ones."""
        self.send(b"".join(map(frames.encode, said)))

    def send(self, raw: bytes) -> None:
        """Send bytes."""
        self._pipe.sendall(raw)

    def end(self) -> None:
        """Close the pipe."""
        self._reader.close()
        self._pipe.shutdown(socket.SHUT_RDWR)
        self._pipe.close()


def body(**values: object) -> bytes:
    """Return a frame of any values."""
    packed = msgspec.msgpack.encode(values)
    return struct.pack(">I", len(packed)) + packed


def piece(request: str, index: int, offset: int) -> Produced:
    """Return a word of four letters at a place."""
    return Produced(request, index, [7], offset, "word")


def random_bytes(pipe: Pipe, request: str) -> None:
    pipe.send(b"\x00\x00\x00\x40" + random.Random(1).randbytes(64))


def wrong_kind(pipe: Pipe, request: str) -> None:
    pipe.say(Cancel(request))


def huge_length(pipe: Pipe, request: str) -> None:
    pipe.send(b"\xff\xff\xff\xff")


def half_a_frame(pipe: Pipe, request: str) -> None:
    pipe.say(piece(request, 0, 0))
    pipe.send(frames.encode(piece(request, 1, 4))[:9])
    sys.exit(0)


def negative_count(pipe: Pipe, request: str) -> None:
    pipe.send(body(kind="stats", slots_busy=-1, queue_length=0, tokens_per_second=0.0, steps=1))


def impossible_token(pipe: Pipe, request: str) -> None:
    pipe.send(
        body(
            kind="produced",
            request_id=request,
            first_token_index=0,
            token_ids=[2**40],
            text_offset=0,
            text="",
        )
    )


def gap_in_text(pipe: Pipe, request: str) -> None:
    pipe.say(piece(request, 0, 0), piece(request, 1, 5))


def gap_in_tokens(pipe: Pipe, request: str) -> None:
    pipe.say(piece(request, 0, 0), piece(request, 2, 4))


def backwards(pipe: Pipe, request: str) -> None:
    pipe.say(piece(request, 1, 4), piece(request, 0, 0))


def loaded_twice(pipe: Pipe, request: str) -> None:
    pipe.say(LOADED)


def failed_load_after_load(pipe: Pipe, request: str) -> None:
    pipe.say(LoadFailed(Failure(1, "no")))


def embeds_an_answer(pipe: Pipe, request: str) -> None:
    pipe.say(Embedded(request, [b""], 1))


def no_pipe(pipe: Pipe, request: str) -> None:
    pipe.end()
    time.sleep(3600)


def foreign_request(pipe: Pipe, request: str) -> None:
    pipe.say(Started("another", 1, 0), piece("another", 0, 99), Finished("another", "stopped"))
    answer(pipe, request)


def finished_twice(pipe: Pipe, request: str) -> None:
    answer(pipe, request)
    pipe.say(Finished(request, "max_tokens"), piece(request, 9, 99))


def answer(pipe: Pipe, request: str) -> None:
    pipe.say(Started(request, 1, 0), piece(request, 0, 0), Finished(request, "end_of_turn"))


def fraction_without_end(pipe: Pipe, request: str) -> None:
    pipe.say(Loading(7.5))


def never_loaded(pipe: Pipe, request: str) -> None:
    sys.exit(0)


def failed_and_stays(pipe: Pipe, request: str) -> None:
    pipe.say(LoadFailed(Failure(20, "This file is not for me.")))
    time.sleep(3600)


AFTER_LOAD: list[Callable[[Pipe, str], None]] = [
    random_bytes,
    wrong_kind,
    huge_length,
    half_a_frame,
    negative_count,
    impossible_token,
    gap_in_text,
    gap_in_tokens,
    backwards,
    loaded_twice,
    failed_load_after_load,
    embeds_an_answer,
    no_pipe,
    foreign_request,
    finished_twice,
]
INSTEAD_OF_LOADED: list[Callable[[Pipe, str], None]] = [
    fraction_without_end,
    never_loaded,
    failed_and_stays,
]


def main() -> None:
    """Load, wait for a request, and do what the scenario says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario")
    parser.add_argument("--fd", type=int)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--engine")
    options = parser.parse_args()
    child.begin(options.scratch)
    pipe = Pipe(socket.socket(fileno=options.fd))
    pipe.hear()
    for scenario in INSTEAD_OF_LOADED:
        if scenario.__name__ == options.scenario:
            scenario(pipe, "")
    pipe.say(LOADED)
    while isinstance(request := pipe.hear(), Generate):
        for scenario in AFTER_LOAD:
            if scenario.__name__ == options.scenario:
                scenario(pipe, request.request_id)
    os._exit(0)


if __name__ == "__main__":
    main()
