"""One account of the memory: promised once, measured, and given back when others need it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import psutil
import pytest

from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.footprint import private_bytes
from potluck_worker.hardware import Memory
from potluck_worker.settings import ModelSettings, WorkerSettings
from worker.conftest import Worker, add_fake, prompt, running, text_of

MIB = 2**20
MODEL_BYTES = 100 * MIB
MARGIN_BYTES = 80 * MIB
REAL = f"memory_bytes = {MODEL_BYTES}\ntakes_memory = true\ntokens_per_second = 20\n"
NEAR = 16 * MIB
"""How far the interpreters of children are apart."""


@dataclass(frozen=True)
class SmallMachine:
    """A machine of our own, in which the engines and the programs that a test starts take room.

    What they take is real and measured; only the size of the machine is made up, so that a test
    need not fill the real one. The process of the tests, which grows and shrinks with all that ran
    in it before, is not on it.
    """

    total_bytes: int
    others_bytes: int
    """What other programs have from the start."""

    def measure(self) -> Memory:
        children = psutil.Process().children()
        taken_bytes = self.others_bytes + sum(private_bytes(child.pid) for child in children)
        return Memory(self.total_bytes, self.total_bytes - taken_bytes)


@contextmanager
def another_program(size_bytes: int) -> Iterator[None]:
    """Run a program that takes memory."""
    script = f"taken = b'x' * {size_bytes}; print(flush=True); input()"
    command = [sys.executable, "-S", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None and program.stdout is not None
        program.stdout.readline()
        try:
            yield
        finally:
            program.communicate(b"\n")


@pytest.fixture
def machine() -> SmallMachine:
    # A daemon in this process does not count it among the other programs.
    own_bytes = private_bytes(os.getpid())
    return SmallMachine(1000 * MIB + own_bytes, 200 * MIB + own_bytes)


def settings(**more: object) -> WorkerSettings:
    return WorkerSettings(name="node", memory_margin_bytes=MARGIN_BYTES, **more)  # type: ignore[arg-type]


async def until(worker: Worker, condition: Callable[[types.NodeState], bool]) -> types.NodeState:
    """Return the first state of a node that is as it should be."""
    async for response in worker.stub.Watch(pb.WatchRequest()):
        if condition(response.state):
            return response.state
    raise AssertionError("the stream ended")


def names(state: types.NodeState) -> set[str]:
    return {model.name for model in state.loaded}


async def states_while(
    worker: Worker, work: asyncio.Task[types.LoadedModel]
) -> AsyncIterator[types.NodeState]:
    while not work.done():
        yield await worker.state()
        await asyncio.wait([work], timeout=0.05)


# --- the account ---


async def test_what_a_half_loaded_model_has_taken_is_not_counted_twice(
    home: Home, machine: SmallMachine
) -> None:
    add_fake(home, "m", REAL + "load_seconds = 2.0\n")
    async with running(home, settings(), machine.measure) as worker:
        before = (await worker.state()).devices[0].memory_free_bytes
        needed_bytes = next(m for m in (await worker.state()).models if m.name == "m")
        loading = asyncio.create_task(worker.loaded("m"))
        taken: list[int] = []
        async for state in states_while(worker, loading):
            for model in state.loaded:
                free_bytes = state.devices[0].memory_free_bytes
                assert before - free_bytes == pytest.approx(
                    needed_bytes.memory_needed_bytes, abs=NEAR
                )
                taken.append(model.memory_bytes)
        assert min(taken) < MODEL_BYTES / 2 < max(taken)
        await loading
        after = (await worker.state()).devices[0].memory_free_bytes
        assert before - after == pytest.approx(needed_bytes.memory_needed_bytes, abs=NEAR)
        await worker.stub.Unload(pb.UnloadRequest(model="m"))
        assert (await worker.state()).devices[0].memory_free_bytes == pytest.approx(
            before, abs=NEAR
        )


async def test_what_was_promised_and_is_not_in_use_yet_is_nobody_elses(
    home: Home, machine: SmallMachine
) -> None:
    add_fake(home, "shy", f"memory_bytes = {MODEL_BYTES}\n")
    async with running(home, settings(), machine.measure) as worker:
        before = (await worker.state()).devices[0].memory_free_bytes
        loaded = await worker.loaded("shy")
        assert loaded.memory_bytes < MODEL_BYTES < loaded.memory_booked_bytes
        after = (await worker.state()).devices[0].memory_free_bytes
        assert before - after == pytest.approx(loaded.memory_booked_bytes, abs=NEAR)


async def test_other_programs_are_told_apart_from_ours(home: Home) -> None:
    # The worker's own part is that of the tests' process, which may be larger than all others here.
    machine = SmallMachine(total_bytes=5000 * MIB, others_bytes=4000 * MIB)
    add_fake(home, "m", REAL)
    async with running(home, settings(), machine.measure) as worker:
        alone = (await worker.state()).devices[0].memory_others_bytes
        await worker.loaded("m")
        beside = (await worker.state()).devices[0].memory_others_bytes
        assert beside == pytest.approx(alone, abs=NEAR)
        with another_program(150 * MIB):
            crowded = (await worker.state()).devices[0].memory_others_bytes
        assert crowded - beside == pytest.approx(150 * MIB, abs=NEAR)


# --- making way ---


async def test_idle_models_make_way_for_other_programs_the_longest_unused_first(
    home: Home, machine: SmallMachine, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second"):
        add_fake(home, name, REAL)
    async with running(home, settings(), machine.measure) as worker:
        for name in ("first", "second", "first"):
            await worker.ask(name)
        # It leaves less than half of the margin, so one model of 100 MiB and more must go.
        free_bytes = worker.daemon.pool.free_bytes()["host"]
        with another_program(free_bytes - MARGIN_BYTES // 4):
            state = await until(worker, lambda state: "second" not in names(state))
            (notice,) = state.notices
            assert "second was unloaded, since other programs left" in notice.text
            assert notice.text in caplog.text
            # What is free beyond the margin is what a node says that it has.
            state = await until(worker, lambda state: state.devices[0].memory_free_bytes > 0)
            assert names(state) == {"first"}
            assert text_of(await worker.ask("first")) == "You said: Hi"


async def test_a_model_that_answers_and_one_that_is_pinned_stay(
    home: Home, machine: SmallMachine
) -> None:
    words = " ".join(f"word{number}" for number in range(30))
    add_fake(home, "busy", f'{REAL}text = "{words}"\n')
    for name in ("pinned", "idle"):
        add_fake(home, name, REAL)
    pinned = settings(models={"pinned": ModelSettings(pinned=True)})
    async with running(home, pinned, machine.measure) as worker:
        for name in ("pinned", "idle"):
            await worker.loaded(name)
        said: list[pb.GenerateResponse] = []
        answer = worker.stub.Generate(prompt("busy"))
        async for response in answer:
            said.append(response)
            if response.HasField("delta"):
                break
        # So much that what is idle does not make up for it.
        with another_program(worker.daemon.pool.free_bytes()["host"] + MODEL_BYTES + 10 * MIB):
            state = await until(worker, lambda state: "idle" not in names(state))
            assert names(state) == {"busy", "pinned"}
            assert [model.pinned for model in state.loaded if model.name == "pinned"] == [True]
            said += [response async for response in answer]
            assert text_of(said) == words
            state = await until(worker, lambda state: names(state) == {"pinned"})
            assert len(state.notices) == 2


async def test_a_model_is_pinned_while_it_is_in_memory(home: Home, machine: SmallMachine) -> None:
    for name in ("kept", "idle"):
        add_fake(home, name, REAL)
    async with running(home, settings(), machine.measure) as worker:
        with pytest.raises(grpc.aio.AioRpcError, match="not in memory"):
            await worker.stub.Pin(pb.PinRequest(model="kept", pinned=True))
        for name in ("kept", "idle"):
            await worker.loaded(name)
        await worker.stub.Pin(pb.PinRequest(model="kept", pinned=True))
        with another_program(worker.daemon.pool.free_bytes()["host"] + MODEL_BYTES + 10 * MIB):
            state = await until(worker, lambda state: "idle" not in names(state))
        assert [(model.name, model.pinned) for model in state.loaded] == [("kept", True)]
        await worker.stub.Pin(pb.PinRequest(model="kept", pinned=False))
        assert not (await worker.state()).loaded[0].pinned


async def test_a_model_does_not_go_as_soon_as_it_came(home: Home, machine: SmallMachine) -> None:
    add_fake(home, "m", REAL)
    async with running(home, settings(), machine.measure) as worker:
        needed = next(m for m in (await worker.state()).models if m.name == "m")
        # Its load leaves just the margin; a little less is no reason to unload it.
        free_bytes = worker.daemon.pool.free_bytes()["host"]
        rest_bytes = free_bytes - MARGIN_BYTES - needed.memory_needed_bytes - NEAR
        with another_program(rest_bytes):
            await worker.loaded("m")
            with another_program(MARGIN_BYTES // 4):
                await worker.daemon.manager.yield_memory()
                assert names(await worker.state()) == {"m"}


async def test_nothing_is_unloaded_where_the_settings_say_so(
    home: Home, machine: SmallMachine
) -> None:
    add_fake(home, "m", REAL)
    async with running(home, settings(yield_memory=False), machine.measure) as worker:
        await worker.loaded("m")
        watched: list[types.NodeState] = []
        with another_program(worker.daemon.pool.free_bytes()["host"]):
            async for response in worker.stub.Watch(pb.WatchRequest()):
                watched.append(response.state)
                if len(watched) == 4:
                    break
        assert all(names(state) == {"m"} and not state.notices for state in watched)
