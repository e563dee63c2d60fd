"""A house of workers with the fake engine, in which things break; and people who ask meanwhile.

Workers and the scheduler are real processes, each in a network namespace of its own. What breaks,
where and when follows from a seed. Needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from e2e.conftest import POTLUCK
from e2e.network import hosts_on_a_bridge, plug
from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
from potluck_proto.identity import Role
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.client import PoolClient

PORT = 7421
TOKENS_PER_SECOND = 80
SHORTEST_WORDS, LONGEST_WORDS = 150, 500
OUT_SECONDS = 4.0
"""How long a machine is frozen or cut off: longer than it takes to be given up."""

SCHEDULER = {
    # Things break here far more often than in a house.
    "POTLUCK_SCHEDULER_LONGEST_BACKOFF_SECONDS": "0.5",
}


@dataclass
class Daemon:
    """A daemon in a namespace, which can be killed and started again."""

    host: str
    home: Home
    module: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.host, sys.executable, "-m", self.module],
            env=os.environ | self.environment | {"POTLUCK_HOME": str(self.home.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Kill the process as hard as can be."""
        if self.process is not None:
            self.process.kill()  # `ip netns exec` becomes the process that it starts
            self.process.wait()

    def family(self) -> list[psutil.Process]:
        """Return the process, then its children."""
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]


@dataclass
class Report:
    """What came of it."""

    answers: int = 0
    moves: Counter[str] = field(default_factory=Counter)
    """By why they happened."""
    wrong: list[str] = field(default_factory=list)
    """Answers that are not what they should be, with what is wrong."""
    silences: dict[str, list[float]] = field(default_factory=dict)
    """Seconds without a word around a move, by why it happened."""
    faults: Counter[str] = field(default_factory=Counter)

    def count(self, seam: pb.Seam) -> str:
        """Count a move; return why it happened."""
        reason = " ".join(seam.reason.replace(seam.from_node, "").split())
        self.moves[reason] += 1
        return reason

    def print(self) -> None:
        """Print it."""
        print(f"{self.answers} answers, {self.moves.total()} moves, {len(self.wrong)} wrong")
        print("faults: " + ", ".join(f"{name} {n}" for name, n in self.faults.most_common()))
        for reason, seconds in sorted(self.silences.items()):
            median, worst = statistics.median(seconds), max(seconds)
            silent = f"silent {median:.2f} s, at most {worst:.2f}"
            print(f"  {reason:<28} {len(seconds):>5} moves, {silent}")
        for wrong in self.wrong[:5]:
            print(f"  {wrong}")


class House:
    """Workers, a scheduler, and a viewer's client.

    Args:
        hosts: Namespaces: of the scheduler, then one for each worker.
        root: Where their homes are.
    """

    def __init__(self, hosts: list[str], root: Path) -> None:
        self.workers: list[Daemon] = []
        for number, host in enumerate(hosts[1:], 2):
            home = Home(root / f"w{number}")
            home.prepare()
            model = f"tokens_per_second = {TOKENS_PER_SECOND}\n"
            (home.models / "echo.fake.toml").write_text(model)
            listen = {
                "POTLUCK_WORKER_LISTEN": f"10.77.0.{number}:{PORT}",
                "POTLUCK_WORKER_NAME": f"w{number}",
            }
            self.workers.append(Daemon(host, home, "potluck_worker", listen))
        home = Home(root / "s")
        home.prepare()
        addresses = [f'"10.77.0.{number}:{PORT}"' for number in range(2, len(hosts) + 1)]
        workers = {"POTLUCK_SCHEDULER_WORKERS": f"[{', '.join(addresses)}]"}
        self.scheduler = Daemon(hosts[0], home, "potluck_scheduler", SCHEDULER | workers)
        self.client = PoolClient(unix_address(home.scheduler_socket))
        self.out: set[str] = set()

    async def until_ready(self, count: int) -> None:
        """Wait until so many workers take work."""
        async for pool in self.client.watch_pool():
            ready = [] if pool is None else pool.nodes
            if (
                sum(n.health == pb.NODE_HEALTH_READY and len(n.state.models) > 0 for n in ready)
                >= count
            ):
                return

    async def until_there(self) -> None:
        """Wait until the scheduler answers."""
        async for pool in self.client.watch_pool():
            if pool is not None:
                return

    async def pair(self, worker: Daemon) -> None:
        """Have a worker join."""
        request = pb.CreateInviteRequest(role=Role.WORKER)
        invite = await self.client.call(self.client.stub.CreateInvite, request)
        joining = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", worker.host, POTLUCK, "join"),
            env=os.environ | {"POTLUCK_HOME": str(worker.home.root)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await joining.communicate(invite.line.encode())
        assert joining.returncode == 0

    async def drain(self, worker: Daemon, *, draining: bool) -> None:
        """Drain a worker, or end that; it may be away just now."""
        name = worker.environment["POTLUCK_WORKER_NAME"]
        with contextlib.suppress(PotluckError):
            request = pb.DrainNodeRequest(node=name, draining=draining)
            await self.client.call(self.client.stub.DrainNode, request)


@contextlib.asynccontextmanager
async def house_of(workers: int, root: Path) -> AsyncIterator[House]:
    """Yield a house in which all works."""
    with hosts_on_a_bridge(workers + 1) as hosts:
        house = House(hosts, root)
        daemons = [*house.workers, house.scheduler]
        try:
            for daemon in daemons:
                daemon.start()
            await house.until_there()
            for worker in house.workers:
                await house.pair(worker)
            await house.until_ready(workers)
            yield house
        finally:
            await house.client.close()
            for daemon in daemons:
                daemon.kill()


# --- faults ----------------------------------------------------------------------------------


async def kill(house: House, worker: Daemon, chance: random.Random) -> None:
    """Kill a worker, and start it again."""
    worker.kill()
    worker.start()
    await house.until_ready(len(house.workers) - len(house.out) + 1)


async def kill_engine(house: House, worker: Daemon, chance: random.Random) -> None:
    """Kill a worker's engine."""
    for engine in worker.family()[1:]:
        engine.kill()


async def freeze(house: House, worker: Daemon, chance: random.Random) -> None:
    """Freeze a machine for a time."""
    frozen = worker.family()
    for process in reversed(frozen):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    await asyncio.sleep(OUT_SECONDS)
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


async def cut_off(house: House, worker: Daemon, chance: random.Random) -> None:
    """Pull a machine's cable for a time."""
    plug(worker.host, connected=False)
    await asyncio.sleep(OUT_SECONDS)
    plug(worker.host, connected=True)


async def drain(house: House, worker: Daemon, chance: random.Random) -> None:
    """Drain a node for a time."""
    await house.drain(worker, draining=True)
    await asyncio.sleep(chance.uniform(0.5, 2.0))
    await house.drain(worker, draining=False)


Fault = Callable[[House, Daemon, random.Random], Awaitable[None]]
FAULTS: tuple[Fault, ...] = (kill, kill_engine, freeze, cut_off, drain)


async def break_things(house: House, report: Report, chance: random.Random, moves: int) -> None:
    """Let things break, on half of the workers at once at most, until so many answers moved."""
    async with asyncio.TaskGroup() as group:
        while report.moves.total() < moves:
            fault, worker = chance.choice(FAULTS), chance.choice(house.workers)
            if worker.host not in house.out and len(house.out) < len(house.workers) // 2:
                house.out.add(worker.host)
                report.faults[fault.__name__] += 1
                group.create_task(_break(house, worker, fault, chance))
            await asyncio.sleep(chance.uniform(0.1, 0.5))


async def _break(house: House, worker: Daemon, fault: Fault, chance: random.Random) -> None:
    try:
        await fault(house, worker, chance)
    finally:
        house.out.discard(worker.host)


# --- people ----------------------------------------------------------------------------------


async def ask_on(house: House, report: Report, name: str, chance: random.Random) -> None:
    """Ask one question, and see that the answer is what it should be."""
    count = chance.randint(SHORTEST_WORDS, LONGEST_WORDS)
    prompt = " ".join(f"{name}-{number}" for number in range(count))
    request = pb.SubmitRequest(content=prompt, model="echo", request_id=name)
    submitted = await submit(house.client, request)
    text, end, heard = "", types.End(), time.monotonic()
    reason, seams = "", 0
    async for event in house.client.attach(submitted.generation_id):
        kind = event.WhichOneof("event") if event is not None else None
        if event is None:
            continue
        if kind == "head":
            for seam in event.head.seams[seams:]:
                reason = report.count(seam)
            seams = len(event.head.seams)
        elif kind == "seam":
            seams += 1
            reason = report.count(event.seam)
        elif kind == "delta":
            if event.delta.text_offset != len(text):
                report.wrong.append(f"{name}: {event.delta.text_offset} follows {len(text)}")
            text += event.delta.text
            now = time.monotonic()
            if reason:
                report.silences.setdefault(reason, []).append(now - heard)
                reason = ""
            heard = now
        elif kind == "end":
            end = event.end
    report.answers += 1
    expected = f"You said: {prompt}"
    if text != expected:
        report.wrong.append(f"{name}: {len(text)} of {len(expected)} characters, {end}")
    elif end.reason != types.END_REASON_END_OF_TURN or end.usage.completion_tokens != count + 2:
        report.wrong.append(f"{name}: {end}, {count + 2} tokens expected")


async def submit(client: PoolClient, request: pb.SubmitRequest) -> pb.SubmitResponse:
    """Submit a prompt, again and again while the scheduler is away."""
    while True:
        with contextlib.suppress(PotluckError):
            return await client.call(client.stub.Submit, request)
        await asyncio.sleep(0.1)


async def people(
    house: House, report: Report, chance: random.Random, count: int, done: asyncio.Event
) -> None:
    """Let so many people ask, one question after the other, until all is done."""

    async def person(number: int) -> None:
        questions = 0
        while not done.is_set():
            questions += 1
            await ask_on(house, report, f"p{number}q{questions}", chance)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(person(number))
