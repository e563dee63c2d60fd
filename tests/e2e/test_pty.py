"""Links that stall, break and are slow, to the terminal and to the scheduler."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from e2e.conftest import POTLUCK, Machine
from e2e.slow_link import slow_link
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types

TESTS = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 40.0
WORDS = [f"w{number}." for number in range(2000)]
MEMORY_GROWTH_BYTES = 100 * 2**20


class Link:
    """A terminal of 80 columns and 24 lines that reads only when it is told to."""

    def __init__(
        self, machine: Machine, command: Sequence[str | Path] = (POTLUCK,), *, owned: bool = True
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=machine.environment
            | {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "PYTHONPATH": str(TESTS)},
            cwd=machine.home.root.parent,
            preexec_fn=(lambda: _own_terminal(slave)) if owned else None,
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, condition: Callable[[str], bool]) -> None:
        """Read until all that came fulfils a condition."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition(self.seen):
            assert time.monotonic() < deadline, f"it did not come:\n{self.seen[-2000:]}"
            if select.select([self._master], [], [], 0.1)[0]:
                came = os.read(self._master, 65536).decode(errors="replace")
                # Escape sequences aside, so that words stand as they are read.
                self.seen += re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07)", " ", came)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def hang_up(self) -> None:
        """Close the line, as sshd does when the connection is lost."""
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        """End everything."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._master >= 0:
            os.close(self._master)


def _own_terminal(slave: int) -> None:
    """Make a terminal that of the process, so that it is told of a hang-up."""
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


@pytest.fixture
def link(machine: Machine) -> Iterator[Link]:
    machine.add_fake_model("talker", text=" ".join(WORDS), tokens_per_second=500)
    started = machine.potluck("chats")
    assert started.returncode == 0, started.stderr
    link = Link(machine)
    link.read_until(lambda seen: "1 node ready" in seen)
    link.type("Hello\r")
    # Any: on a busy machine the first picture of the answer may be of its hundredth line.
    link.read_until(lambda seen: bool(re.search(r"\bw\d+\.", seen)))
    yield link
    link.close()


async def ended_answer(machine: Machine) -> pb.StoredMessage:
    """Return the only answer, once it has ended."""
    async with machine.client() as client:
        deadline = time.monotonic() + LIMIT_SECONDS
        (chat,) = (await client.call(client.stub.ListChats, pb.ListChatsRequest())).chats
        while True:
            answer = (await client.whole_chat(chat.chat_id)).messages[-1]
            if answer.HasField("end"):
                return answer
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)  # between two looks at the condition


def test_a_terminal_that_stops_reading_misses_nothing(machine: Machine, link: Link) -> None:
    process = psutil.Process(link.process.pid)
    before_bytes = process.memory_info().rss
    answer = asyncio.run(ended_answer(machine))
    assert answer.content == " ".join(WORDS)
    assert answer.end.reason == types.END_REASON_END_OF_TURN
    assert link.process.poll() is None
    link.read_until(lambda seen: WORDS[-1] in seen and "tokens/s" in seen)
    assert process.memory_info().rss - before_bytes < MEMORY_GROWTH_BYTES
    link.type("still alive")
    link.read_until(lambda seen: "still alive" in seen)


def test_a_line_that_hangs_up_takes_neither_answer_nor_draft(machine: Machine, link: Link) -> None:
    link.type("half a thought")
    link.read_until(lambda seen: "half a thought" in seen)
    link.hang_up()
    assert link.process.wait(LIMIT_SECONDS) == 129
    assert list(json.loads(machine.home.drafts_file.read_text()).values()) == ["half a thought"]
    assert asyncio.run(ended_answer(machine)).content == " ".join(WORDS)


def test_a_stalled_line_that_hangs_up_leaves_no_process(machine: Machine, link: Link) -> None:
    asyncio.run(ended_answer(machine))
    link.hang_up()
    assert link.process.wait(LIMIT_SECONDS) == 129


def test_a_stalled_line_does_not_keep_a_program_that_is_ended(machine: Machine, link: Link) -> None:
    asyncio.run(ended_answer(machine))
    link.process.terminate()
    assert link.process.wait(LIMIT_SECONDS) == 143


def test_a_window_without_a_shell_is_not_put_aside(machine: Machine, link: Link) -> None:
    link.type("\x1a")
    link.read_until(lambda seen: "no shell to go to" in seen)
    link.type("still here")
    link.read_until(lambda seen: "still here" in seen)


def test_a_terminal_of_another_session_that_goes_away_leaves_no_process(machine: Machine) -> None:
    # The kernel sends no signal then: only the line itself tells.
    link = Link(machine, owned=False)
    link.read_until(lambda seen: "1 node ready" in seen)
    link.hang_up()
    assert link.process.wait(LIMIT_SECONDS) == 129


def test_a_slow_line_to_the_scheduler_blocks_neither_typing_nor_lists(
    machine: Machine, short_tmp: Path
) -> None:
    machine.add_fake_model("talker", text="Flour and water.")
    asked = machine.potluck("ask", "Bread?")
    assert asked.returncode == 0, asked.stderr
    away = Home(short_tmp / "away")
    away.prepare()
    command = (sys.executable, TESTS / "tui" / "demo.py", away.root)
    with slow_link(machine.home.scheduler_socket, away.scheduler_socket) as line:
        link = Link(machine, command)
        try:
            link.read_until(lambda seen: "1 node ready" in seen and "1 chat" in seen)
            line.hold()  # nothing can come from the scheduler now
            link.type("half a thought")
            link.read_until(lambda seen: "half a thought" in seen)
            link.type("\x06")
            link.read_until(lambda seen: "earch all chats" in seen)
            link.type("flour")
            link.read_until(lambda seen: "searching…" in seen)
            assert "1 hit" not in link.seen
            line.release()
            link.read_until(lambda seen: "1 hit" in seen)
        finally:
            link.close()
