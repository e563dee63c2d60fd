from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from e2e.conftest import Machine
from e2e.network import hosts_on_a_bridge, plug
from e2e.test_two_machines import Host
from potluck_proto.daemon import running_instance
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.client import PoolClient

STARTER = "potluck-starter"
LONG = "Write me a long story about a house full of computers."
WORDS = " ".join(f"word{number}" for number in range(200))


@dataclass
class Seen:
    """An answer as a viewer sees it."""

    text: str = ""
    node: str = ""
    seams: list[pb.Seam] = field(default_factory=list)
    end: types.End = field(default_factory=types.End)


async def ask(
    client: PoolClient, request: pb.SubmitRequest, on_first_delta: Callable[[str], None]
) -> Seen:
    """Submit a prompt and see its answer; `on_first_delta` is told the node that began it."""
    submitted = await client.call(client.stub.Submit, request)
    seen = Seen()
    async for event in client.attach(submitted.generation_id):
        assert event is not None
        match event.WhichOneof("event"):
            case "head":
                seen.node = event.head.explanation.node_name
            case "placed":
                seen.node = event.placed.node_name
            case "delta":
                assert event.delta.text_offset == len(seen.text)
                if not seen.text:
                    on_first_delta(seen.node)
                seen.text += event.delta.text
            case "seam":
                seen.seams.append(event.seam)
            case "end":
                seen.end = event.end
    return seen


def of_worker(machine: Machine) -> list[psutil.Process]:
    """Return a machine's worker, then its children: engines, and who watches over them."""
    instance = running_instance(machine.home, "worker")
    assert instance is not None
    worker = psutil.Process(instance["process_id"])
    return [worker, *worker.children(recursive=True)]


@contextmanager
def second(machine: Machine) -> Iterator[Machine]:
    """Yield another machine, beside the first."""
    other = Machine(type(machine.home)(machine.home.root.parent / "other"))
    other.home.prepare()
    try:
        yield other
    finally:
        assert other.potluck("down").returncode == 0


@asynccontextmanager
async def pool_of_two(machine: Machine) -> AsyncIterator[tuple[PoolClient, dict[str, Machine]]]:
    """Yield a pool of two workers that both know their models, and who is who."""
    with second(machine) as other:
        other.home.settings_file.write_text('[worker]\nname = "other"\n')
        up = other.potluck("up", "--only", "worker")
        assert up.returncode == 0, up.stderr
        address = unix_address(other.home.worker_socket)
        machine.home.prepare()
        machine.home.settings_file.write_text(
            f'[worker]\nname = "here"\n[scheduler]\nworkers = ["{address}"]\n'
        )
        assert machine.potluck("up").returncode == 0
        async with machine.client() as client:
            async for pool in client.watch_pool():
                if pool is not None and sum(len(n.state.models) > 0 for n in pool.nodes) == 2:
                    break
            for name in ("here", "other"):
                load = pb.LoadModelRequest(model=STARTER, node=name)
                await client.call(client.stub.LoadModel, load, timeout_seconds=30)
            yield client, {"here": machine, "other": other}


@pytest.mark.parametrize(
    "sampling",
    [types.Sampling(temperature=0), types.Sampling(temperature=0.8, seed=7)],
    ids=["greedy", "seeded"],
)
async def test_an_answer_of_a_killed_worker_is_the_one_that_would_have_come(
    machine: Machine, sampling: types.Sampling
) -> None:
    request = pb.SubmitRequest(content=LONG, model=STARTER, sampling=sampling)
    async with pool_of_two(machine) as (client, machines):

        def kill(node: str) -> None:
            worker, *children = of_worker(machines[node])
            for child in children:
                if "potluck_worker.engine_host" in child.cmdline():
                    child.suspend()  # so that it is mid-answer when its worker dies
            worker.kill()

        whole = await ask(client, request, lambda _: None)
        moved = await ask(client, request, kill)
        assert moved.text == whole.text
        assert moved.end.reason == whole.end.reason == types.END_REASON_END_OF_TURN
        (seam,) = moved.seams
        assert seam.exact
        assert {seam.from_node, seam.to_node} == {"here", "other"}
        assert 0 < seam.text_offset < len(moved.text)


async def test_an_answer_of_a_frozen_machine_goes_on_elsewhere(machine: Machine) -> None:
    request = pb.SubmitRequest(content=LONG, model=STARTER, sampling=types.Sampling(temperature=0))
    frozen: list[psutil.Process] = []
    async with pool_of_two(machine) as (client, machines):

        def freeze(node: str) -> None:
            for process in reversed(of_worker(machines[node])):
                process.suspend()
                frozen.append(process)

        whole = await ask(client, request, lambda _: None)
        try:
            moved = await ask(client, request, freeze)
        finally:
            for process in frozen:
                process.resume()
        assert moved.text == whole.text
        (seam,) = moved.seams
        assert seam.reason.endswith("was lost")
        async for pool in client.watch_pool():
            if pool is not None and all(n.health == pb.NODE_HEALTH_READY for n in pool.nodes):
                break


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
async def test_an_answer_behind_a_link_that_goes_down_goes_on_here(machine: Machine) -> None:
    with hosts_on_a_bridge(2) as (here, there), second(machine) as other:
        for each in (machine, other):
            each.add_fake_model("slow", text=WORDS, tokens_per_second=50)
        other.home.settings_file.write_text('[worker]\nname = "there"\n')
        machine.home.settings_file.write_text('[worker]\nname = "here"\n')
        hall = Host(here, machine)
        hall.potluck("up")
        Host(there, other).potluck("join", typed=hall.potluck("invite"))
        async with machine.client() as client:
            async for pool in client.watch_pool():
                if pool is not None and sum(len(n.state.models) > 0 for n in pool.nodes) == 2:
                    break
            for name in ("here", "there"):
                load = pb.LoadModelRequest(model="slow", node=name)
                await client.call(client.stub.LoadModel, load, timeout_seconds=30)
            drain = pb.DrainNodeRequest(node="here", draining=True)
            await client.call(client.stub.DrainNode, drain)

            async for pool in client.watch_pool():
                assert pool is not None
                if any(node.state.draining for node in pool.nodes):
                    break
            undraining = []

            def cut(node: str) -> None:
                assert node == "there"
                drain.draining = False
                undrained = client.call(client.stub.DrainNode, drain)
                undraining.append(asyncio.create_task(undrained))
                plug(there, connected=False)

            seen = await ask(client, pb.SubmitRequest(content="Hi", model="slow"), cut)
            await asyncio.gather(*undraining)
            assert seen.text == WORDS
            assert [(seam.from_node, seam.to_node) for seam in seen.seams] == [("there", "here")]
