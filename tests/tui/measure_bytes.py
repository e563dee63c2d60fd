"""Measure what streaming costs a link: bytes to the terminal per token, and CPU time.

`python tests/tui/measure_bytes.py` runs the demo in a pty of 80x24, asks one question and counts
what is written until nothing comes any more.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

DEMO = Path(__file__).with_name("demo.py")
TOKENS_PER_SECOND = 100
SETTLE_SECONDS = 3.0
SILENCE_SECONDS = 1.5


def main() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = os.environ | {
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "PYTHONPATH": str(DEMO.parent.parent),
        "DEMO_SECONDS_BETWEEN": str(1 / TOKENS_PER_SECOND),
    }
    if "--ssh" in sys.argv:
        environment["SSH_CONNECTION"] = "192.0.2.1 1 192.0.2.2 22"
        del environment["COLORTERM"]
    process = subprocess.Popen(
        [sys.executable, str(DEMO)], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    read_for(master, SETTLE_SECONDS)
    before_cpu, started = cpu_seconds(process.pid), time.monotonic()
    os.write(master, b"How big?\r")
    written = read_for(master, 1.0)
    while more := read_for(master, SILENCE_SECONDS):
        written += more
    seconds = time.monotonic() - started - SILENCE_SECONDS
    process_cpu = cpu_seconds(process.pid) - before_cpu
    process.kill()
    process.wait()
    from tui import samples

    tokens = len(samples.pieces(samples.ANSWER * 2))
    print(
        json.dumps(
            {
                "tokens": tokens,
                "seconds": round(seconds, 2),
                "bytes": len(written),
                "bytes_per_token": round(len(written) / tokens, 1),
                "cpu_share": round(process_cpu / seconds, 3),
            }
        )
    )


def read_for(descriptor: int, seconds: float) -> bytes:
    """Return what comes within some time."""
    deadline = time.monotonic() + seconds
    got = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            got += os.read(descriptor, 65536)
    return got


def cpu_seconds(process_id: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
