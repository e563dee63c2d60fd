"""Real processes: the `potluck` command as a user types it, in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from potluck_proto.home import Home
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.client import PoolClient

POTLUCK = Path(sys.executable).parent / "potluck"


@dataclass(frozen=True)
class Machine:
    """A home, and what a user at this machine can do."""

    home: Home

    @property
    def environment(self) -> dict[str, str]:
        """What a fresh login has, and the home."""
        return {
            "PATH": f"{POTLUCK.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home.root),
            "POTLUCK_HOME": str(self.home.root),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
        }

    def potluck(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command to its end, with `typed` as its standard input."""
        return subprocess.run(
            [POTLUCK, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.home.root.parent,
            timeout=60,
            check=False,
        )

    def add_fake_model(self, name: str, **options: object) -> None:
        """Put a model for the fake engine into the models folder."""
        self.home.prepare()
        lines = [f"{key} = {_toml(value)}\n" for key, value in options.items()]
        (self.home.models / f"{name}.fake.toml").write_text("".join(lines))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[PoolClient]:
        """Connect to the running scheduler."""
        client = PoolClient(unix_address(self.home.scheduler_socket))
        try:
            yield client
        finally:
            await client.close()

    def processes(self) -> list[psutil.Process]:
        """Return every process that runs with this home."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("POTLUCK_HOME") == str(self.home.root)
                # A zombie has ended; whoever adopted it reaps it when it likes.
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


async def submit(client: PoolClient, content: str, model: str = "") -> pb.SubmitResponse:
    """Submit a prompt into a new chat."""
    return await client.call(client.stub.Submit, pb.SubmitRequest(content=content, model=model))


@pytest.fixture
def machine(short_tmp: Path) -> Iterator[Machine]:
    """Yield a machine with nothing on it; nothing may be left of it afterwards."""
    machine = Machine(Home(short_tmp / "home"))
    yield machine
    down = machine.potluck("down")
    assert down.returncode == 0, down.stderr
    left = machine.processes()
    for process in left:
        process.kill()
    assert not left


@pytest.fixture(scope="session", autouse=True)
def no_pool_of_the_developer() -> None:
    """Keep the developer's own home out of all this."""
    os.environ.pop("POTLUCK_HOME", None)
