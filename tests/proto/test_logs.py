from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from potluck_proto.logs import DEFAULT_LINES, LINES_TOGETHER, LogTail, read_log

LIMIT_BYTES = 2000


class Log:
    """A log that is rotated soon."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._handler = RotatingFileHandler(path, maxBytes=LIMIT_BYTES, backupCount=1, delay=True)

    def write(self, count: int) -> list[str]:
        """Write lines, each another one; return them."""
        lines = [f"line {self.count + number} é" for number in range(count)]
        for line in lines:
            self._handler.emit(logging.makeLogRecord({"msg": line}))
        self.count += count
        return lines

    def close(self) -> None:
        self._handler.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "a.log")
    yield log
    log.close()


def test_a_log_that_is_not_there_yet_has_no_lines(log: Log) -> None:
    tail = LogTail(log.path)
    assert tail.last(5) == []
    assert tail.new() == []
    lines = log.write(3)
    assert tail.new() == lines
    tail.close()


def test_the_last_lines_reach_back_over_a_rotation(log: Log) -> None:
    lines = log.write(200)
    size = log.path.stat().st_size
    assert size < LIMIT_BYTES
    in_file = log.path.read_text().count("\n")
    for count in (1, in_file, in_file + 1, in_file + 30):
        tail = LogTail(log.path)
        assert tail.last(count) == lines[-count:]
        tail.close()


@pytest.mark.parametrize("seed", range(5))
def test_each_line_is_read_once_however_the_log_is_rotated(log: Log, seed: int) -> None:
    chance = random.Random(seed)
    tail = LogTail(log.path)
    written, read = [], tail.last(10)
    for _ in range(300):
        written += log.write(chance.randrange(40))
        read += tail.new()
    tail.close()
    assert read == written


def test_a_line_that_is_half_written_is_shown_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("w") as file:
        tail = LogTail(path)
        print("one\nhal", end="", file=file, flush=True)
        assert tail.last(9) == ["one"]
        print("f\ntwo", file=file, flush=True)
        assert tail.new() == ["half", "two"]
        tail.close()


def test_a_line_without_end_does_not_hide_those_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"\xff" * 500_000 + b"\nlast\n")
    tail = LogTail(path)
    assert tail.last(1) == ["last"]
    tail.close()


async def gathered(lines: AsyncIterator[list[str]]) -> list[list[str]]:
    return [batch async for batch in lines]


async def test_a_reader_gets_messages_that_are_not_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert await gathered(read_log(path, 0, follow=False)) == [[]]
    written = [f"{number}" for number in range(3 * LINES_TOGETHER)]
    path.write_text("\n".join([*written, ""]))
    batches = await gathered(read_log(path, 2 * LINES_TOGETHER + 1, follow=False))
    assert [len(batch) for batch in batches] == [LINES_TOGETHER, LINES_TOGETHER, 1]
    assert [*itertools.chain(*batches)] == written[-(2 * LINES_TOGETHER + 1) :]
    (batch,) = await gathered(read_log(path, 0, follow=False))
    assert len(batch) == DEFAULT_LINES


async def test_a_reader_who_follows_sees_lines_as_they_come(log: Log) -> None:
    written = log.write(5)
    read: list[str] = []
    async for lines in read_log(log.path, 3, follow=True):
        read += lines
        if len(read) >= 40:
            break
        written += await asyncio.to_thread(log.write, 20)
    assert read == written[2 : 2 + len(read)]
