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
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.serving import process
from bench.table import row
from e2e.house import house_of
from e2e.network import throttle
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


def send(source: Path, host: str) -> None:
    """Send a file to who connects first; say where to."""
    with socket.create_server((host, 0)) as door:
        print(door.getsockname()[1], flush=True)
        connection, _ = door.accept()
        with connection, source.open("rb") as file:
            connection.sendfile(file)


def receive(host: str, port: int, target: Path) -> None:
    """Write what comes over one connection; print the seconds that it takes."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    started = time.perf_counter()
    with socket.create_connection((host, port)) as connection, target.open("wb") as file:
        while count := connection.recv_into(buffer):
            file.write(buffer[:count])
    print(time.perf_counter() - started)


def on(machine: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run a part of this script on a machine, which is a network namespace; empty is this one."""
    there = ["ip", "netns", "exec", machine] if machine else []
    command = [*there, sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def over_tcp(
    source: Path, target: Path, machines: tuple[str, str] = ("", ""), host: str = "127.0.0.1"
) -> float:
    """Return the seconds that a file takes over one connection, neither hashed nor encrypted."""
    sending = on(machines[0], "send", source, host)
    assert sending.stdout is not None
    receiving = on(machines[1], "receive", host, sending.stdout.readline().strip(), target)
    said, _ = receiving.communicate()
    sending.wait()
    target.unlink()
    return float(said)


async def until_listed(stub: SchedulerServiceAsyncStub, model: str, times: int) -> None:
    """Wait until the scheduler knows two nodes, of which so many have a model."""
    async for pool in stub.WatchPool(pb.WatchPoolRequest()):
        lists = [[m.name for m in node.state.models] for node in pool.nodes]
        if len(lists) == 2 and all(lists) and sum(model in names for names in lists) == times:
            return


async def copy(stub: SchedulerServiceAsyncStub, model: str, to_node: str) -> float:
    """Return the seconds that a copy takes; it is deleted again."""
    started = time.perf_counter()
    async for _ in stub.CopyModel(pb.CopyModelRequest(model=model, to_node=to_node)):
        pass
    seconds = time.perf_counter() - started
    await until_listed(stub, model, 2)
    await stub.RemoveModel(pb.RemoveModelRequest(model=model, node=to_node))
    await until_listed(stub, model, 1)
    return seconds


def daemon(
    name: str, home: Home, *options: str
) -> AbstractContextManager[tuple[str, subprocess.Popen[str]]]:
    """Run a daemon while a context lasts."""
    command = [sys.executable, "-m", f"potluck_{name}", *options]
    environment = {"POTLUCK_HOME": str(home.root)}
    return process(command, environment, lambda line: line.startswith("ready"))


async def measure_here(folder: Path, source: Path) -> None:
    """From one socket of this machine to another."""
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
            await until_listed(stub, source.stem, 1)
            await stub.DescribeModel(pb.DescribeModelRequest(model=source.stem, hashes=True))
            for _ in range(ROUNDS):
                ours.append(SIZE_MIB / await copy(stub, source.stem, "b"))
                tcp.append(SIZE_MIB / over_tcp(source, folder / "tcp"))
    row("copy between workers, hashed | one TCP connection, not", ours, tcp, "MiB/s")


async def measure_network(folder: Path, source: Path) -> None:
    """Between paired machines on a network of one gigabit, through a scheduler on a third."""
    ours, tcp = [], []
    async with house_of(2, folder / "house") as house:
        for machine in (house.scheduler, *house.workers):
            throttle(machine.host, "1gbit")
        os.link(source, house.workers[0].home.models / source.name)
        stub, machines = house.client.stub, [worker.host for worker in house.workers]
        await until_listed(stub, source.stem, 1)
        await stub.DescribeModel(pb.DescribeModelRequest(model=source.stem, hashes=True))
        for _ in range(ROUNDS):
            ours.append(SIZE_MIB / await copy(stub, source.stem, "w3"))
            way = (machines[0], machines[1])
            tcp.append(SIZE_MIB / over_tcp(source, folder / "tcp", way, "10.77.0.2"))
    row("the same over one gigabit, encrypted | one TCP connection, not", ours, tcp, "MiB/s")


def main() -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        folder = Path(name)
        source = folder / "source.gguf"
        with source.open("wb") as file:
            for _ in range(SIZE_MIB):
                file.write(os.urandom(MIB))
        asyncio.run(measure_here(folder, source))
        if os.geteuid() == 0:
            asyncio.run(measure_network(folder, source))
        else:
            print("the copy over a network needs root, for machines of their own: left out")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", source, host]:
            send(Path(source), host)
        case ["receive", host, port, target]:
            receive(host, int(port), Path(target))
        case _:
            main()
