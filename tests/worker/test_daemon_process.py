"""The worker daemon as a process of its own: how it ends, and what goes with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from potluck_proto import network
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1 import worker_pb2_grpc as pb_grpc
from potluck_worker.process import group_lives
from worker.conftest import add_fake, prompt

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

LONG = f'text = "{"word " * 1000}"\ntokens_per_second = 20\n'
LIMIT_SECONDS = 20.0
MIB = 2**20


@dataclass
class Daemon:
    """A running daemon, and a stub for it."""

    process: asyncio.subprocess.Process
    stub: WorkerServiceAsyncStub

    async def leader(self) -> int:
        """Return the process id of the only engine, once it has one."""
        async for watched in self.stub.Watch(pb.WatchRequest()):
            if watched.state.loaded and watched.state.loaded[0].process_id:
                return watched.state.loaded[0].process_id
        raise AssertionError("the daemon went away")


@asynccontextmanager
async def daemon(home: Home, cgroup: Path | None = None) -> AsyncIterator[Daemon]:
    """Run a daemon, in a control group where one is given."""
    join = f"echo $$ > {cgroup}/cgroup.procs && " if cgroup else ""
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        f"{join}exec {sys.executable} -m potluck_worker",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"POTLUCK_HOME": str(home.root), "TMPDIR": tempfile.gettempdir()},
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"ready")
    try:
        async with network.dial(network.unix_address(home.worker_socket)) as channel:
            yield Daemon(process, pb_grpc.WorkerServiceStub(channel))
    finally:
        if process.returncode is None:
            process.terminate()
        assert await process.wait() in (0, -signal.SIGKILL)


async def until_gone(leader: int, daemon_id: int) -> None:
    """Wait until nothing is left of a child's group and of its temporary files."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while group_lives(leader) or scratch_folders(daemon_id):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def scratch_folders(daemon_id: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"potluck-{daemon_id}-*"))


def oom_score_adjustment(process_id: int) -> str:
    return Path(f"/proc/{process_id}/oom_score_adj").read_text().strip()


async def under_way(running: Daemon, model: str) -> asyncio.Task[list[pb.GenerateResponse]]:
    """Ask, and return the answer under way once its first word is there."""
    begun = asyncio.Event()

    async def ask() -> list[pb.GenerateResponse]:
        responses = []
        async for response in running.stub.Generate(prompt(model)):
            responses.append(response)
            if response.HasField("delta"):
                begun.set()
        return responses

    answer = asyncio.create_task(ask())
    await begun.wait()
    return answer


@pytest.mark.parametrize("how", ["sleep", "deaf"])
async def test_a_daemon_that_is_killed_takes_a_child_in_a_long_call_along(
    home: Home, how: str
) -> None:
    add_fake(home, "stuck", f'{LONG}stall_after_tokens = 3\nstall_with = "{how}"\nlitter = true\n')
    async with daemon(home) as running:
        answer = await under_way(running, "stuck")
        leader = await running.leader()
        assert len(psutil.Process(leader).children(recursive=True)) == 2
        assert len(scratch_folders(running.process.pid)) == 1
        running.process.kill()
        await until_gone(leader, running.process.pid)
        await asyncio.gather(answer, return_exceptions=True)


async def test_a_daemon_that_is_killed_takes_a_load_along(home: Home) -> None:
    add_fake(home, "stuck", 'stall_on_load = true\nstall_with = "deaf"\nlitter = true\n')
    async with daemon(home) as running:
        call = running.stub.Load(pb.LoadRequest(options=types.LoadOptions(model="stuck")))
        leader = await running.leader()
        running.process.kill()
        await until_gone(leader, running.process.pid)
        call.cancel()


async def test_a_daemon_that_is_stopped_ends_its_answers_in_words_and_then_its_children(
    home: Home,
) -> None:
    add_fake(home, "slow", LONG + "litter = true\n")
    async with daemon(home) as running:
        answer = await under_way(running, "slow")
        leader = await running.leader()
        running.process.terminate()
        end = (await answer)[-1].end
        assert end.error.code == types.ERROR_CODE_DISPLACED
        assert "worker was stopped" in end.error.message
        assert await running.process.wait() == 0
        assert not group_lives(leader)
        assert not scratch_folders(running.process.pid)


async def test_a_daemon_is_not_kept_from_stopping_by_a_deaf_child(home: Home) -> None:
    add_fake(home, "deaf", f'{LONG}stall_after_tokens = 3\nstall_with = "deaf"\n')
    async with daemon(home) as running:
        answer = await under_way(running, "deaf")
        leader = await running.leader()
        running.process.terminate()
        await answer
        assert await asyncio.wait_for(running.process.wait(), 15) == 0
        assert not group_lives(leader)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a score for this")
async def test_the_kernel_would_take_an_engine_first(home: Home) -> None:
    add_fake(home, "m")
    async with daemon(home) as running:
        async for _ in running.stub.Load(pb.LoadRequest(options=types.LoadOptions(model="m"))):
            pass
        leader = await running.leader()
        assert oom_score_adjustment(leader) == "1000"
        assert oom_score_adjustment(running.process.pid) == oom_score_adjustment(os.getpid())


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """Yield a control group with 300 MiB of memory."""
    limits = {"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"}
    for root, limit in limits.items():
        group = Path(root) / f"potluck-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(300 * MIB))
        except OSError:
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("control groups with a limit on memory need root")


async def test_where_memory_runs_out_the_engine_goes_and_the_daemon_says_so(
    home: Home, small_cgroup: Path
) -> None:
    add_fake(home, "hungry", f'{LONG}crash_after_tokens = 3\ncrash_with = "memory"\n')
    async with daemon(home, small_cgroup) as running:
        end = (await (await under_way(running, "hungry")))[-1].end
        assert end.error.code == types.ERROR_CODE_ENGINE_DIED
        assert "killed by the kernel (SIGKILL) because memory ran out" in end.error.message
        assert "it held 0." in end.error.message
        assert "Take a smaller quantization" in end.error.message
        described = await running.stub.Describe(pb.DescribeRequest())
        assert not described.state.loaded
