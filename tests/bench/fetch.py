"""Fetching a model: with its hash, beside curl and beside the hash alone; a part of `make bench`.

All of it, the server too, is on this machine's cores.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.table import row
from potluck_worker.library.remote import RemoteFile
from potluck_worker.library.transfer import Transfer

MIB = 2**20
SIZE_MIB = 512
ROUNDS = 5


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
    import potluck_worker.library.hub  # noqa: F401 - what the process that pulls has there

    size = source.stat().st_size
    wanted = RemoteFile(target.name, size, sha256=source.with_suffix(".sha256").read_text())
    started = time.perf_counter()
    Transfer(url, {}, wanted, target, lambda done: None).run()
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


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", file]:
            serve(Path(file))
        case ["fetch", url, source, target]:
            fetch(url, Path(source), Path(target))
        case _:
            main()
