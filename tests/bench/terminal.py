"""What the terminal costs: bytes, CPU time and waiting, in a pty of 80x24, beside its marks.

The terminal is a process of its own; the scheduler that it shows runs here, and is a fake where a
row is about the terminal alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.big_store import CHATS, MESSAGES, QUERIES, fill
from bench.pty_program import PtyProgram
from bench.table import row
from e2e.slow_link import slow_link
from potluck_proto.home import Home
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.client import PoolClient
from tui import samples
from tui.fake_scheduler import FakeScheduler, Reply

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "tests" / "tui" / "demo.py"
POTLUCK = Path(sys.executable).parent / "potluck"

REPEATS = 3
TOKENS_PER_SECOND = 100
ANSWER = samples.pieces((samples.ANSWER * 5)[: 4 * 700])
"""Mixed Markdown of 700 tokens: a list, a table, code, a quote, again and again."""

CODE_TOKENS = 10_000
CODE_TOKENS_PER_SECOND = 250
ECHOES = 100
ECHO_KEYS = "αβγδεζηθλμξπφχψωбвгдежзиклпртуфцчшщыэюяљњђћџ"
"""Keys that stand in no answer, so that their echo can be told from it."""

CHANGES = 40
CHANGE_SECONDS = 0.5

READY = b"nodes ready"
LIMIT_SECONDS = 60.0
SILENCE_SECONDS = 1.0
LAG_SECONDS = 2.0
"""How far a terminal may be behind the tokens for its bytes to be counted."""


def environment(*, ssh: bool) -> dict[str, str]:
    """Return what a terminal in truecolor, or one behind ssh, tells of itself."""
    more = {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"} if ssh else {"COLORTERM": "truecolor"}
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT / "tests"),
        **more,
    }


@contextmanager
def terminal(
    pieces: Sequence[str], tokens_per_second: float, *, ssh: bool = False
) -> Iterator[PtyProgram]:
    """Yield a terminal on a fake pool that answers so, ready to be typed into."""
    with terminal_and_pool(pieces, tokens_per_second, ssh=ssh) as (program, _):
        yield program


@contextmanager
def terminal_and_pool(
    pieces: Sequence[str], tokens_per_second: float, *, ssh: bool = False
) -> Iterator[tuple[PtyProgram, Callable[[pb.WatchPoolResponse], None]]]:
    """Yield a terminal and what shows it another pool."""
    replies = [Reply(pieces, seconds_between=1 / tokens_per_second)] * 9
    with fake_pool(replies) as (command, change):
        program = PtyProgram(command, environment(ssh=ssh))
        program.read_until(lambda seen: READY in seen, LIMIT_SECONDS)
        program.read_for(SILENCE_SECONDS)
        yield program, change
        program.close()


@contextmanager
def fake_pool(
    replies: Sequence[Reply],
) -> Iterator[tuple[Sequence[str], Callable[[pb.WatchPoolResponse], None]]]:
    """Yield the command of a terminal on a pool that answers so, and what shows another pool."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        scheduler = FakeScheduler(Home(Path(folder)).scheduler_socket)
        scheduler.pool = samples.house()
        scheduler.replies.extend(replies)
        with _running(scheduler) as loop:
            command = [sys.executable, str(DEMO), folder]
            yield command, lambda pool: _change(loop, scheduler, pool)


def _change(
    loop: asyncio.AbstractEventLoop, scheduler: FakeScheduler, pool: pb.WatchPoolResponse
) -> None:
    loop.call_soon_threadsafe(scheduler.change_pool, pool)


@contextmanager
def _running(scheduler: FakeScheduler) -> Iterator[asyncio.AbstractEventLoop]:
    """Run a scheduler in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(scheduler.start(), loop).result()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(scheduler.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def answer_cost(program: PtyProgram, keys: bytes) -> tuple[float, float]:
    """Ask for `ANSWER` with these keys; return the bytes a token, and the share of a core."""
    seconds = len(ANSWER) / TOKENS_PER_SECOND
    before, cpu = len(program.written), program.cpu_seconds()
    program.type(keys)
    program.read_for(seconds + LAG_SECONDS)
    written = len(program.written) - before
    return written / len(ANSWER), (program.cpu_seconds() - cpu) / seconds


def measure_answer(*, ssh: bool) -> tuple[float, float]:
    """Return the bytes a token, and the share of a core, of one answer of mixed Markdown."""
    with terminal(ANSWER, TOKENS_PER_SECOND, ssh=ssh) as program:
        return answer_cost(program, b"How big?\r")


def measure_answers() -> None:
    """Bytes and CPU time of an answer of mixed Markdown, by ssh and without."""
    for ssh, mark in ((True, 120), (False, 350)):
        found = [measure_answer(ssh=ssh) for _ in range(REPEATS)]
        name = "ssh" if ssh else "local"
        row(f"bytes a token, {name} | mark", [each[0] for each in found], [mark], "bytes")
        row(f"CPU at 100 tokens/s, {name} | mark", [100 * each[1] for each in found], [25], "%")


def measure_code() -> None:
    """CPU time over one long code block: its last quarter beside its first."""
    line = "    total_bytes = weights_bytes + cache_bytes(layers, heads)  # of a card\n"
    text = "Look:\n\n```python\n" + line * (4 * CODE_TOKENS // len(line))
    pieces = samples.pieces(text)
    with terminal(pieces, CODE_TOKENS_PER_SECOND) as program:
        program.type(b"Code!\r")
        shares = []
        for _ in range(4):
            cpu, started = program.cpu_seconds(), time.monotonic()
            program.read_for(len(pieces) / CODE_TOKENS_PER_SECOND / 4)
            shares.append(100 * (program.cpu_seconds() - cpu) / (time.monotonic() - started))
    row("CPU in a code block of 10,000 tokens, its end | its start", shares[-1:], shares[:1], "%")


def _holds(key: bytes) -> Callable[[bytes], bool]:
    return lambda written: key in written


def echo_rows(program: PtyProgram, name: str) -> None:
    """Print how long keys take to their echoes."""
    waits: list[float] = []
    for number in range(ECHOES):
        program.read_for(random.uniform(0.05, 0.2))
        key = ECHO_KEYS[number % len(ECHO_KEYS)].encode()
        before, typed = len(program.written), time.monotonic()
        program.type(key)
        seen = program.read_until(_holds(key), LIMIT_SECONDS, before)
        waits.append(1000 * (seen - typed))
        if number % 20 == 19:
            program.type(b"\x15")  # the line is full soon: start over
    waits.sort()
    row(f"key to echo {name}, p99 | mark", [waits[int(ECHOES * 0.99) - 1]], [50], "ms")
    row(f"key to echo {name}, p50 | mark", [statistics.median(waits)], [50], "ms")


def measure_echo() -> None:
    """From a key to its echo while an answer comes."""
    with terminal(ANSWER * 5, TOKENS_PER_SECOND) as program:
        program.type(b"Go\r")
        program.read_for(1.0)
        echo_rows(program, "while an answer comes")


def measure_slow_link() -> None:
    """From a key to its echo with a real scheduler behind a slow line that loses."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        near, away = Home(Path(folder) / "a"), Home(Path(folder) / "b")
        near.prepare()
        away.prepare()
        variables = environment(ssh=False) | {"POTLUCK_HOME": str(near.root)}
        subprocess.run([POTLUCK, "chats"], check=True, capture_output=True, env=variables)
        try:
            with slow_link(near.scheduler_socket, away.scheduler_socket):
                command = [sys.executable, str(DEMO), str(away.root)]
                program = PtyProgram(command, environment(ssh=True))
                program.read_until(lambda seen: b"node ready" in seen, LIMIT_SECONDS)
                echo_rows(program, "with 200 ms to the scheduler")
                program.close()
        finally:
            subprocess.run([POTLUCK, "down"], check=True, capture_output=True, env=variables)


def measure_machines() -> None:
    """Bytes and CPU time of the machines screen while every machine changes twice a second."""
    for ssh in (True, False):
        name = "ssh" if ssh else "local"
        with terminal_and_pool((), TOKENS_PER_SECOND, ssh=ssh) as (program, change):
            program.type(b"\x14")
            program.read_until(lambda seen: b"old-laptop" in seen, LIMIT_SECONDS)
            program.read_for(SILENCE_SECONDS)
            before, cpu = len(program.written), program.cpu_seconds()
            for number in range(CHANGES):
                pool = samples.house()
                for node in pool.nodes:
                    node.state.tokens_per_second = 10 + number
                    node.state.queue_length = number
                change(pool)
                program.read_for(CHANGE_SECONDS)
            seconds = CHANGES * CHANGE_SECONDS
            row(
                f"machines screen, {name} | mark",
                [(len(program.written) - before) / seconds],
                [600 if ssh else 3000],
                "bytes/s",
            )
            share = 100 * (program.cpu_seconds() - cpu) / seconds
            row(f"CPU of the machines screen, {name} | mark", [share], [10], "%")


def measure_stall() -> None:
    """Memory and CPU time of a terminal that nobody reads for 60 s in mid-answer."""
    with terminal(ANSWER * 10, TOKENS_PER_SECOND) as program:
        program.type(b"Go\r")
        program.read_for(2.0)
        memory, cpu = program.memory_bytes(), program.cpu_seconds()
        time.sleep(60)
        grown = (program.memory_bytes() - memory) / 2**20
        share = 100 * (program.cpu_seconds() - cpu) / 60
        before = len(program.written)
        program.read_until(lambda seen: b"tokens/s" in seen, LIMIT_SECONDS, before)
    row("memory grown while nobody reads for 60 s | mark", [grown], [50], "MiB")
    row("CPU while nobody reads for 60 s | mark", [share], [25], "%")


def measure_many_chats() -> None:
    """The start, and the search, with very many chats in the store."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        home = Home(Path(folder))
        home.prepare()
        fill(home.chat_store)
        variables = environment(ssh=False) | {"POTLUCK_HOME": folder}
        try:
            paints, lists = [], []
            for _ in range(REPEATS + 3):
                program = PtyProgram([str(POTLUCK)], variables)
                painted = program.read_until(lambda seen: b"sk something" in seen, LIMIT_SECONDS)
                listed = program.read_until(lambda seen: b"100+ chats" in seen, LIMIT_SECONDS)
                paints.append(1000 * (painted - program.started))
                lists.append(1000 * (listed - program.started))
                program.close()
            # The first start also starts the daemons.
            row(f"first paint, {CHATS:,} chats of {MESSAGES} | mark", paints[2:], [500], "ms")
            row(f"the list there, {CHATS:,} chats | mark", lists[2:], [500], "ms")
            for name, waits in asyncio.run(_searches(home)).items():
                row(f"search of {CHATS * MESSAGES:,} messages, {name} | mark", waits, [100], "ms")
        finally:
            os.spawnve(os.P_WAIT, POTLUCK, [str(POTLUCK), "down"], variables)


async def _searches(home: Home) -> dict[str, list[float]]:
    client = PoolClient(unix_address(home.scheduler_socket))
    waits: dict[str, list[float]] = {}
    for name, query in QUERIES.items():
        waits[name] = []
        for _ in range(REPEATS):
            started = time.monotonic()
            await client.call(client.stub.SearchChats, pb.SearchChatsRequest(query=query))
            waits[name].append(1000 * (time.monotonic() - started))
    await client.close()
    return waits


if __name__ == "__main__":
    measure_answers()
    measure_code()
    measure_echo()
    measure_slow_link()
    measure_machines()
    measure_many_chats()
    measure_stall()
