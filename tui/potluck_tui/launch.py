"""Start the daemons of this machine where they do not run, and wait until they answer.

The command starts daemons as processes and never by import. Started this way they are background
processes of their own session, which outlive the terminal and end by themselves after
`IDLE_EXIT_SECONDS` without use.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from potluck_proto import network
from potluck_proto.daemon import forget_death, running_instance
from potluck_proto.errors import NoNodes, PotluckError, SetupError, Unreachable
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.client import PoolClient

IDLE_EXIT_SECONDS = 1800
"""Background daemons that nobody installed as a service go away after this long without use."""

START_LIMIT_SECONDS = 30.0
"""A daemon that neither answers nor ends within this time is given up."""

STOP_LIMIT_SECONDS = 10.0
"""A daemon that does not end within this time after SIGTERM is killed."""

FULL_BYTES = 2**20
"""A disk with less free than this has no room for the files of a daemon, nor its words."""

_POLL_SECONDS = 0.02

DAEMONS = ("scheduler", "worker")


@dataclass(frozen=True, slots=True)
class Daemon:
    """One of the two daemons, as a process to start."""

    name: str
    arguments: tuple[str, ...] = ()

    def spawn(self, home: Home) -> subprocess.Popen[bytes]:
        """Start the process in a session of its own; it says `ready` on its standard output."""
        with self.words(home).open("wb") as words:
            return subprocess.Popen(
                [sys.executable, "-m", f"potluck_{self.name}", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                start_new_session=True,
                cwd=home.root,
                env=os.environ | {"POTLUCK_HOME": str(home.root)},
            )

    def words(self, home: Home) -> Path:
        """Return the file for what the process says beside its log."""
        return home.logs / f"{self.name}.start.log"


async def ensure_running(home: Home) -> PoolClient:
    """Return a client of the local scheduler, starting what does not run on this machine.

    Raises:
        PotluckError: A daemon did not start; the message is what it said.
    """
    for name in ("worker", "scheduler"):
        await ensure_daemon(home, name)
    client = PoolClient(network.unix_address(home.scheduler_socket))
    try:
        await _until_it_answers(client)
    except BaseException:
        await client.close()
        raise
    return client


async def ensure_daemon(home: Home, name: str) -> None:
    """Start one daemon of this machine where it does not run. Raises `PotluckError`."""
    home.prepare()
    if running_instance(home, name) is None:
        await start(Daemon(name, ("--idle-exit", str(IDLE_EXIT_SECONDS))), home)


async def start(daemon: Daemon, home: Home) -> list[str]:
    """Start one daemon; return where it listens, once it does.

    Raises `PotluckError` with what the daemon said where it did not start.

    Another process may start the same daemon at the same moment; then one of the two ends at once,
    and the other is as good.
    """
    process = daemon.spawn(home)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_LIMIT_SECONDS):
            said = await asyncio.to_thread(process.stdout.readline)
    except TimeoutError:
        process.kill()
        raise PotluckError(
            f"The {daemon.name} did not start within {START_LIMIT_SECONDS:.0f} seconds. "
            f"Its log is {home.logs / daemon.name}.log."
        ) from None
    finally:
        process.stdout.close()
    if not said and running_instance(home, daemon.name) is None:
        process.wait()
        raise PotluckError(_last_words(daemon, home))
    return said.decode().split()[1:]


async def _until_it_answers(client: PoolClient) -> None:
    """Wait until the scheduler, which holds its lock, has opened its socket."""
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while True:
        try:
            await client.check_version()
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return


async def until_a_node_is_ready(
    client: PoolClient, limit_seconds: float = START_LIMIT_SECONDS
) -> None:
    """Wait until some worker has told the scheduler its models.

    Raises:
        NoNodes: None did in time.
    """
    try:
        async with asyncio.timeout(limit_seconds):
            async for pool in client.watch_pool():
                if pool is not None and any(
                    node.health == pb.NODE_HEALTH_READY and node.state.models for node in pool.nodes
                ):
                    return
    except TimeoutError:
        raise NoNodes(
            f"No worker was ready within {limit_seconds:.0f} seconds. `potluck nodes` shows "
            "what the scheduler sees; `potluck up` starts a worker on this machine."
        ) from None


async def until_running(home: Home, name: str) -> None:
    """Wait until a daemon that something else starts has taken its lock. Raises `SetupError`."""
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while running_instance(home, name) is None:
        if time.monotonic() > deadline:
            raise SetupError(
                f"The {name} did not start within {START_LIMIT_SECONDS:.0f} seconds. Its log is "
                f"{home.logs / name}.log."
            )
        await asyncio.sleep(_POLL_SECONDS)


async def stop(home: Home, name: str) -> str | None:
    """Stop one daemon; return how it ended in words, or `None` where it did not run."""
    instance = running_instance(home, name)
    if instance is None:
        return None
    deadline = time.monotonic() + STOP_LIMIT_SECONDS
    try:
        process = psutil.Process(instance["process_id"])
        process.terminate()
        # A zombie has ended; whoever adopted it reaps it when it likes.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                process.kill()
                forget_death(home, name)
                return f"killed, as it did not stop within {STOP_LIMIT_SECONDS:.0f} seconds"
            await asyncio.sleep(_POLL_SECONDS)
    except psutil.NoSuchProcess:
        pass
    return "stopped"


def _last_words(daemon: Daemon, home: Home) -> str:
    """Return what a daemon that ended at once said, which is a sentence of its own."""
    said = daemon.words(home).read_text(errors="replace").strip()
    free_bytes = shutil.disk_usage(home.root).free
    if not said and free_bytes < FULL_BYTES:
        return (
            f"The {daemon.name} did not start: the disk of {home.root} is full "
            f"({free_bytes // 1024} KiB free). Make room there, then try again."
        )
    if not said:
        return f"The {daemon.name} ended at once without a word; see {home.logs}/{daemon.name}.log."
    return said.splitlines()[-1].removeprefix(f"potluck-{daemon.name}: ")
