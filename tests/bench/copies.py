"""Copying a model from one worker through the scheduler to another, beside one bare TCP connection.

A part of `make bench`. All of it is on this machine's cores: on several machines each has its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.serving import process
from bench.table import row
from potluck_proto import network
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from potluck_proto.v1.scheduler_pb2_grpc import SchedulerServiceAsyncStub

MIB = 2**20
SIZE_MIB = 512
ROUNDS = 5
BUFFER_BYTES = MIB


def over_tcp(source: Path, target: Path) -> float:
    """Return the seconds that a file takes over one connection, written and not hashed."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def send() -> None:
            connection, _ = door.accept()
            with connection, source.open("rb") as file:
                connection.sendfile(file)

        sender = threading.Thread(target=send)
        started = time.perf_counter()
        sender.start()
        buffer = memoryview(bytearray(BUFFER_BYTES))
        with socket.create_connection(door.getsockname()) as connection, target.open("wb") as file:
            while count := connection.recv_into(buffer):
                file.write(buffer[:count])
        sender.join()
        return time.perf_counter() - started


async def until_listed(stub: SchedulerServiceAsyncStub, model: str, times: int) -> None:
    """Wait until the scheduler knows two nodes, of which so many have a model."""
    async for pool in stub.WatchPool(pb.WatchPoolRequest()):
        lists = [[m.name for m in node.state.models] for node in pool.nodes]
        if len(lists) == 2 and all(lists) and sum(model in names for names in lists) == times:
            return


def daemon(
    name: str, home: Home, *options: str
) -> AbstractContextManager[tuple[str, subprocess.Popen[str]]]:
    """Run a daemon while a context lasts."""
    command = [sys.executable, "-m", f"potluck_{name}", *options]
    environment = {"POTLUCK_HOME": str(home.root)}
    return process(command, environment, lambda line: line.startswith("ready"))


async def measure_copy(folder: Path, source: Path) -> None:
    """A copy from worker to worker beside one TCP connection."""
    homes = [Home(folder / name) for name in ("a", "b")]
    for home in homes:
        home.prepare()
    os.link(source, homes[0].models / source.name)
    ours, tcp = [], []
    with (
        daemon("worker", homes[0], "--name", "a"),
        daemon("worker", homes[1], "--name", "b"),
        daemon("scheduler", homes[0]),
    ):
        async with network.dial(network.unix_address(homes[0].scheduler_socket)) as channel:
            stub = pb_grpc.SchedulerServiceStub(channel)
            address = network.unix_address(homes[1].worker_socket)
            await stub.AddNode(pb.AddNodeRequest(address=address))
            asked = pb.DescribeModelRequest(model=source.stem, hashes=True)
            await until_listed(stub, source.stem, 1)
            await stub.DescribeModel(asked)
            for _ in range(ROUNDS):
                started = time.perf_counter()
                async for _ in stub.CopyModel(pb.CopyModelRequest(model=source.stem, to_node="b")):
                    pass
                ours.append(SIZE_MIB / (time.perf_counter() - started))
                removal = pb.RemoveModelRequest(model=source.stem, node="b")
                await until_listed(stub, source.stem, 2)
                await stub.RemoveModel(removal)
                await until_listed(stub, source.stem, 1)
                tcp.append(SIZE_MIB / over_tcp(source, folder / "tcp"))
    row("copy between workers, hashed | one TCP connection, not", ours, tcp, "MiB/s")


def main() -> None:
    """Print the row."""
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        source = Path(name) / "source.gguf"
        with source.open("wb") as file:
            for _ in range(SIZE_MIB):
                file.write(os.urandom(MIB))
        asyncio.run(measure_copy(Path(name), source))


if __name__ == "__main__":
    main()
