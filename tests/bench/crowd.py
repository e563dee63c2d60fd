"""How long first tokens take while a crowd leans on the doors, beside a quiet house.

500 connections say nothing, 200 streams of paired clients are read once in five seconds, one paired
client calls as fast as it can, and one stranger connects as fast as it can. An honest client asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path

from bench.table import row
from e2e.conftest import Machine
from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
from potluck_proto.identity import Identity, Role
from potluck_proto.invite import Invite
from potluck_proto.network import split_host_port, unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui import joining
from potluck_tui.client import PoolClient
from potluck_tui.joining import remembered_address

SILENT = 500
SLOW_CLIENTS, SLOW_STREAMS = 20, 10
SLOW_SECONDS = 5.0
FLOOD_TASKS = 64
SETTLE_SECONDS = 8.0
"""Longer than a connection has to show its certificate."""

QUESTIONS = 20
ROUNDS = 2


async def join(pool: PoolClient, home: Home) -> None:
    """Pair a client."""
    home.prepare()
    response = await pool.call(pool.stub.CreateInvite, pb.CreateInviteRequest(role=Role.CLIENT))
    await joining.join(Invite.read(response.line), home, home.root.name, 0)


def client(home: Home) -> PoolClient:
    """Return a paired client."""
    return PoolClient(remembered_address(home), Identity.read(home.identity_file(Role.CLIENT)))


async def first_tokens(asker: PoolClient) -> list[float]:
    """Return the milliseconds from questions to the first words of their answers."""
    found = []
    for _ in range(QUESTIONS):
        started = time.perf_counter()
        asked = await asker.call(asker.stub.Submit, pb.SubmitRequest(content="Hi", model="echo"))
        async for event in asker.attach(asked.generation_id):
            if event is not None and event.delta.text:
                found.append(1000 * (time.perf_counter() - started))
                break
    return found


# --- The crowd, in a process of its own -----------------------------------------------------------


async def say_nothing(host: str, port: int, number: int) -> None:
    """Connect from an address of its own, and again when the connection is cut."""
    source = (f"127.0.{1 + number // 250}.{1 + number % 250}", 0)
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port, local_addr=source)
            await reader.read()
            writer.close()


async def read_slowly(home: Home) -> None:
    """Follow the pool, and read once in a while."""
    slow = client(home)
    while True:
        call = slow.stub.WatchPool(pb.WatchPoolRequest())
        with contextlib.suppress(Exception):
            while True:
                await call.read()
                await asyncio.sleep(SLOW_SECONDS)


async def call_fast(flooding: PoolClient) -> None:
    """Call as fast as it can."""
    while True:
        with contextlib.suppress(PotluckError):
            await flooding.call(flooding.stub.GetStatus, pb.GetStatusRequest())


async def connect_fast(host: str, port: int) -> None:
    """Connect as fast as it can."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port, local_addr=("127.0.9.9", 0))
            writer.close()
            await asyncio.sleep(0)


async def lean(folder: Path) -> None:
    """Be the crowd, until killed."""
    flooding = client(Home(folder / "flood"))
    host, port = split_host_port(flooding.address)
    work: list[Coroutine[None, None, None]] = [
        *(say_nothing(host, port, number) for number in range(SILENT)),
        *(
            read_slowly(Home(folder / f"slow{number}"))
            for number in range(SLOW_CLIENTS)
            for _ in range(SLOW_STREAMS)
        ),
        *(call_fast(flooding) for _ in range(FLOOD_TASKS)),
        connect_fast(host, port),
    ]
    await asyncio.gather(*work)


# --- The house ------------------------------------------------------------------------------------


async def measure(folder: Path) -> None:
    """Print the row."""
    hall = Machine(Home(folder / "hall"))
    hall.add_fake_model("echo", text="one two three", tokens_per_second=50)
    hall.home.settings_file.write_text(
        '[scheduler]\nlisten = "127.0.0.1:0"\njoin_listen = "127.0.0.1:0"\n'
    )
    assert hall.potluck("ask", "-m", "echo", "Hi").returncode == 0
    owner = PoolClient(unix_address(hall.home.scheduler_socket))
    homes = ["honest", "flood", *(f"slow{number}" for number in range(SLOW_CLIENTS))]
    for name in homes:
        await join(owner, Home(folder / name))
    honest = client(Home(folder / "honest"))
    await first_tokens(honest)
    quiet, crowded = [], []
    for _ in range(ROUNDS):
        quiet += await first_tokens(honest)
        crowd = await asyncio.create_subprocess_exec(sys.executable, __file__, str(folder))
        try:
            await asyncio.sleep(SETTLE_SECONDS)
            crowded += await first_tokens(honest)
        finally:
            crowd.kill()
            await crowd.wait()
    row("first words, a crowd at the doors | quiet", crowded, quiet, "ms")
    await honest.close()
    await owner.close()
    hall.potluck("down")


def main() -> None:
    """Measure, or be the crowd of a folder."""
    if len(sys.argv) > 1:
        asyncio.run(lean(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
