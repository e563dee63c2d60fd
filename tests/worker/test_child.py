"""Everything that an engine's process can do wrong, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

import grpc
import pytest

from fakes import child
from potluck_proto.errors import (
    EngineDied,
    ModelFileError,
    NotEnoughMemory,
    PotluckError,
    Stalled,
    from_proto,
    from_rpc,
)
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.installed import Interpreter
from potluck_worker.process import group_lives
from worker.conftest import Worker, add_fake, text_of
from worker.leftovers import held, no_more_than

SECRET = "xyzzy-what-nobody-may-read"
WORDS = 'text = "one two three four five six"\n'
AFTER_TWO = WORDS + "crash_after_tokens = 2\nlitter = true\n"
ON_LOAD = "crash_on_load = true\nlitter = true\n"
HANG = WORDS + "stall_after_tokens = 2\nlitter = true\n"
HANG_ON_LOAD = "stall_on_load = true\nlitter = true\n"


@dataclass(frozen=True)
class Fault:
    """A way to fail, and what is said of it."""

    name: str
    model: str
    error: type[PotluckError]
    words: str


FAULTS = [
    Fault("abort", AFTER_TWO, EngineDied, "aborted (SIGABRT). Ask again"),
    Fault("abort", AFTER_TWO, EngineDied, "Its last words: GGML_ASSERT(fake) failed"),
    Fault("segfault", AFTER_TWO, EngineDied, "crashed (SIGSEGV)"),
    Fault("exit", AFTER_TWO, EngineDied, "ended with exit code 7"),
    Fault("exception", AFTER_TWO, EngineDied, "ValueError"),
    Fault("memory_error", AFTER_TWO, EngineDied, "probably because memory ran out; it held 0."),
    Fault("abort", ON_LOAD, EngineDied, "aborted (SIGABRT)"),
    Fault("segfault", ON_LOAD, EngineDied, "crashed (SIGSEGV)"),
    Fault("exit", ON_LOAD, EngineDied, "ended with exit code 7"),
    Fault("exception", ON_LOAD, PotluckError, "ValueError"),
    Fault("memory_error", ON_LOAD, NotEnoughMemory, "ran out of memory while it was loaded"),
    Fault("sleep", HANG, Stalled, "no progress for 1 seconds"),
    Fault("deaf", HANG, Stalled, "no progress for 1 seconds"),
    Fault("sleep", HANG_ON_LOAD, Stalled, "stood at 0% for 1 seconds"),
    Fault("deaf", HANG_ON_LOAD, Stalled, "stood at 0% for 1 seconds"),
]

GARBAGE = {
    "random_bytes": (EngineDied, "sent what no engine may send"),
    "wrong_kind": (EngineDied, "sent what no engine may send"),
    "huge_length": (EngineDied, "4294967295 bytes"),
    "half_a_frame": (EngineDied, "exit code 0"),
    "negative_count": (EngineDied, "sent what no engine may send"),
    "impossible_token": (EngineDied, "sent what no engine may send"),
    "gap_in_text": (EngineDied, "text at 5 that goes on at 4"),
    "gap_in_tokens": (EngineDied, "tokens at 2 that go on at 1"),
    "backwards": (EngineDied, "text at 0 that goes on at 8"),
    "loaded_twice": (EngineDied, "a second word on its load"),
    "failed_load_after_load": (EngineDied, "a second word on its load"),
    "embeds_an_answer": (EngineDied, "Embedded for a request of another kind"),
    "no_pipe": (EngineDied, "SIGKILL"),
    "fraction_without_end": (EngineDied, "sent what no engine may send"),
    "never_loaded": (EngineDied, "exit code 0"),
    "failed_and_stays": (ModelFileError, "not for me"),
}


async def outcome(worker: Worker, model: str) -> PotluckError | None:
    """Return how a question to a model fails, `None` where it does not."""
    try:
        end = (await worker.ask(model, SECRET))[-1].end
    except grpc.aio.AioRpcError as error:
        return from_rpc(error, "The worker")
    return from_proto(end.error) if end.reason == types.END_REASON_FAILED else None


async def log_of(worker: Worker, model: str) -> list[str]:
    """Return the lines of a model's log."""
    request = pb.LogsRequest(model=model, lines=1000)
    return [line async for response in worker.stub.Logs(request) for line in response.lines]


def leader_of(log: list[str]) -> int:
    """Return the process id of the newest child in a log."""
    started = [line for line in log if " engine, process " in line]
    return int(started[-1].split(" engine, process ")[1].split(":")[0])


async def check_that_all_is_well(worker: Worker, model: str, error: PotluckError) -> None:
    """The log has the report and no prompt, and nothing of the child is left."""
    log = await log_of(worker, model)
    assert any(error.message in line for line in log), log
    assert not any(SECRET in line for line in log), log
    assert not group_lives(leader_of(log))
    assert not (await worker.state()).loaded


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.name}-{fault.words[:24]}")
async def test_a_fault_costs_its_answer_and_nothing_else(
    worker: Worker, home: Home, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker.state()
    before = held()
    option = "stall_with" if fault.error is Stalled else "crash_with"
    add_fake(home, "bad", f'{fault.model}{option} = "{fault.name}"\n')
    with monkeypatch.context() as patch:
        if fault.error is Stalled:
            patch.setattr("potluck_worker.supervisor.STALL_SECONDS", 1.0)
        if fault.model is HANG_ON_LOAD:
            patch.setattr("potluck_worker.supervisor.LOAD_STALL_SECONDS", 1.0)
        error = await outcome(worker, "bad")
    assert type(error) is fault.error
    assert fault.words in error.message
    assert SECRET not in error.message
    await check_that_all_is_well(worker, "bad", error)
    await no_more_than(before)


@pytest.mark.parametrize("scenario", GARBAGE)
async def test_garbage_on_the_pipe_costs_its_answer_and_nothing_else(
    worker: Worker, home: Home, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_fake(home, "bad")
    await worker.state()
    before = held()
    with monkeypatch.context() as patch:
        patch.setattr("potluck_worker.supervisor.COMMAND", (child.__file__, scenario))
        error = await outcome(worker, "bad")
    expected, words = GARBAGE[scenario]
    assert type(error) is expected
    assert words in error.message
    await check_that_all_is_well(worker, "bad", error)
    await no_more_than(before)


async def test_an_answer_goes_on_while_the_engine_beside_it_dies(
    worker: Worker, home: Home
) -> None:
    add_fake(home, "good", 'text = "one two three four five six"\ntokens_per_second = 10\n')
    add_fake(home, "bad", AFTER_TWO)
    await worker.loaded("good")
    answer = asyncio.create_task(worker.ask("good"))
    assert isinstance(await outcome(worker, "bad"), EngineDied)
    assert text_of(await answer) == "one two three four five six"


@pytest.mark.parametrize("scenario", ["foreign_request", "finished_twice"])
async def test_words_on_a_request_that_nobody_has_are_dropped(
    worker: Worker, home: Home, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_fake(home, "odd")
    monkeypatch.setattr("potluck_worker.supervisor.COMMAND", (child.__file__, scenario))
    for _ in range(2):
        assert text_of(await worker.ask("odd")) == "word"


def test_every_scenario_of_the_bad_child_has_a_row() -> None:
    scenarios = {scenario.__name__ for scenario in (*child.AFTER_LOAD, *child.INSTEAD_OF_LOADED)}
    assert scenarios == {*GARBAGE, "foreign_request", "finished_twice"}


async def test_a_child_that_cannot_be_started_is_said_in_words(
    worker: Worker, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_fake(home, "bad")
    await worker.state()
    before = held()
    missing = Interpreter(str(home.root / "missing"))
    monkeypatch.setattr("potluck_worker.installed.OWN", missing)
    error = await outcome(worker, "bad")
    assert isinstance(error, EngineDied)
    assert "cannot be started" in error.message
    await no_more_than(before)


async def test_a_load_that_comes_on_slowly_is_not_taken_for_a_stall(
    worker: Worker, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.supervisor.LOAD_STALL_SECONDS", 6.0)
    monkeypatch.setattr("potluck_worker.supervisor.STALL_SECONDS", 1.0)
    add_fake(home, "large", "load_seconds = 7.0\n")
    assert text_of(await worker.ask("large")) == "You said: Hi"


async def test_a_slow_machine_is_not_taken_for_a_stalled_engine(
    worker: Worker, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.supervisor.STALL_SECONDS", 0.5)
    add_fake(home, "slow", "step_seconds = 1.5\n")
    assert text_of(await worker.ask("slow", "Hi")) == "You said: Hi"


async def test_an_engine_at_rest_is_not_taken_for_a_stall(
    worker: Worker, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.supervisor.STALL_SECONDS", 0.2)
    add_fake(home, "m")
    pid = (await worker.loaded("m")).process_id
    await asyncio.sleep(1.0)
    assert (await worker.state()).loaded[0].process_id == pid
    assert text_of(await worker.ask("m")) == "You said: Hi"


async def test_a_frozen_child_goes_when_its_model_is_unloaded(
    worker: Worker, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.supervisor.CLOSE_SECONDS", 0.5)
    add_fake(home, "frozen", "litter = true\n")
    pid = (await worker.loaded("frozen")).process_id
    os.kill(pid, signal.SIGSTOP)
    await worker.stub.Unload(pb.UnloadRequest(model="frozen"))
    assert not group_lives(pid)


@pytest.mark.timeout(300)
async def test_nothing_is_left_of_a_hundred_loads_and_crashes(
    worker: Worker, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.crashes.LONGEST_BACKOFF_SECONDS", 0.0)
    add_fake(home, "good")
    add_fake(home, "bad", AFTER_TWO)
    add_fake(home, "worse", ON_LOAD)
    add_fake(home, "worst", ON_LOAD + 'crash_with = "segfault"\n')

    async def crash(model: str) -> None:
        assert isinstance(await outcome(worker, model), EngineDied)

    async def load_and_unload() -> None:
        await worker.loaded("good")
        await worker.stub.Unload(pb.UnloadRequest(model="good"))

    async def four_children() -> None:
        await asyncio.gather(load_and_unload(), *map(crash, ("bad", "worse", "worst")))

    await four_children()
    before = held()
    for _ in range(25):
        await four_children()
    await no_more_than(before)
    assert len([*home.logs.iterdir()]) <= 4
