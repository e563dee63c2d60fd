"""Bringing a model here, beside the least that it could cost; a part of `make bench`.

A pull, which hashes, beside curl and beside the hash alone; a copy from one worker through the
scheduler to another beside one bare TCP connection. All of it is on this machine's cores.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from bench.serving import process
from bench.table import row
from potluck_proto import network
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_worker.library.remote import RemoteFile
from potluck_worker.library.transfer import Transfer

if TYPE_CHECKING:
    from potluck_proto.v1.scheduler_pb2_grpc import SchedulerServiceAsyncStub

MIB = 2**20
SIZE_MIB = 256
ROUNDS = 5
BUFFER_BYTES = MIB


class Server(BaseHTTPRequestHandler):
    """Sends ranges of one file, as fast as the kernel does."""

    protocol_version = "HTTP/1.1"
    file = Path()

    def do_GET(self) -> None:
        """Send what is asked for."""
        size = self.file.stat().st_size
        first, _, last = self.headers.get("Range", "bytes=0-")[6:].partition("-")
        start, end = int(first), int(last or size - 1)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Content-Length", str(end + 1 - start))
        self.end_headers()
        self.wfile.flush()
        with self.file.open("rb") as file:
            while start <= end:
                start += os.sendfile(
                    self.connection.fileno(), file.fileno(), start, end + 1 - start
                )

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(file: Path) -> None:
    """Serve a file; say where."""
    Server.file = file
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
    server.serve_forever()


def fetch(url: str, source: Path, target: Path) -> None:
    """Fetch a file as a pull does; print the seconds and the peak of memory in MiB."""
    size = source.stat().st_size
    wanted = RemoteFile(target.name, size, sha256=source.with_suffix(".sha256").read_text())
    started = time.perf_counter()
    with httpx2.Client() as client:
        Transfer(client, url, {}, wanted, target, lambda done: None).run()
    seconds = time.perf_counter() - started
    print(seconds, peak_mib())


def peak_mib() -> float:
    """Return the most memory that this process held; `getrusage` counts its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


@contextmanager
def serving(file: Path) -> Iterator[str]:
    """Yield where a process serves a file."""
    server = subprocess.Popen([sys.executable, __file__, "serve", file], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().decode().strip()
    finally:
        server.kill()
        server.wait()


def said(*command: str | Path) -> list[float]:
    """Return the numbers that a command prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def measure_pull(folder: Path, source: Path) -> None:
    """A pull beside curl, and beside sha256 of the same file alone."""
    ours, curls, hashes, peaks = [], [], [], []
    target = folder / "fetched.gguf"
    with serving(source) as url:
        for _ in range(ROUNDS):
            seconds, peak = said(sys.executable, __file__, "fetch", url, source, target)
            ours.append(SIZE_MIB / seconds)
            peaks.append(peak)
            target.unlink()
            (seconds,) = said("curl", "-s", "-o", target, "-w", "%{time_total}", url)
            curls.append(SIZE_MIB / seconds)
            target.unlink()
            started = time.perf_counter()
            with source.open("rb") as file:
                hashlib.file_digest(file, "sha256")
            hashes.append(SIZE_MIB / (time.perf_counter() - started))
    row("pull with hashing | curl without", ours, curls, "MiB/s")
    row("pull with hashing | sha256 alone", ours, hashes, "MiB/s")
    row("peak memory of a pull | what it may be", peaks, [60.0], "MiB")


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
    """Print the rows."""
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        folder = Path(name)
        source = folder / "source.gguf"
        with source.open("wb") as file:
            for _ in range(SIZE_MIB):
                file.write(os.urandom(MIB))
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        source.with_suffix(".sha256").write_text(digest)
        measure_pull(folder, source)
        asyncio.run(measure_copy(folder, source))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", file]:
            serve(Path(file))
        case ["fetch", url, source, target]:
            fetch(url, Path(source), Path(target))
        case _:
            main()
