from __future__ import annotations

import asyncio
import math
import os
import signal

import grpc
import psutil
import pytest

from potluck_proto import network
from potluck_proto.errors import (
    BadRequest,
    Draining,
    EngineDied,
    NotEnoughMemory,
    PotluckError,
    UnknownModel,
    from_rpc,
)
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.settings import WorkerSettings
from worker.conftest import Worker, add_fake, prompt, running, text_of

WORDS = " ".join(f"word{number}" for number in range(40))
SLOW = f'text = "{WORDS}"\ntokens_per_second = 40\n'


async def failure(worker: Worker, request: pb.GenerateRequest) -> PotluckError:
    """Return the error that a request fails with before its answer begins."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in worker.stub.Generate(request):
            pass
    return from_rpc(caught.value, "The worker")


async def test_the_node_says_what_it_is(worker: Worker) -> None:
    state = await worker.state()
    assert state.name == "node"
    assert state.devices[0].memory_total_bytes > state.devices[0].memory_free_bytes > 0
    assert state.engines[0].available
    (starter,) = state.models
    assert (starter.name, starter.quantization, starter.starter) == (
        "potluck-starter",
        "Q8_0",
        True,
    )
    assert 2**20 < starter.memory_needed_bytes < 2**30


async def test_a_stream_ends_in_words_at_a_request_that_cannot_be_read(home: Home) -> None:
    async with running(home), network.dial(network.unix_address(home.worker_socket)) as channel:
        make: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        make = channel.stream_stream("/potluck.v1.WorkerService/Work")
        call = make()
        await call.write(b"\xff" * 4)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert "malformed" in from_rpc(caught.value, "The worker").message


async def test_a_copy_that_ends_before_its_offer_is_refused(worker: Worker) -> None:
    call = worker.stub.ReceiveModel()
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc(caught.value, "The worker"), BadRequest)


async def test_a_watcher_hears_changes_and_the_heartbeat(worker: Worker, home: Home) -> None:
    add_fake(home, "late")
    revisions: list[int] = []
    async for response in worker.stub.Watch(pb.WatchRequest()):
        revisions += [response.state.revision]
        if len(revisions) > 2 and any(model.name == "late" for model in response.state.models):
            break
    assert revisions == sorted(set(revisions))


async def test_an_answer_loads_its_model_first(worker: Worker) -> None:
    responses = await worker.ask("potluck-starter", "What is quantization?")
    assert "bits" in text_of(responses)
    end = responses[-1].end
    assert end.reason == types.END_REASON_END_OF_TURN
    assert end.usage.completion_tokens > 10
    assert end.usage.tokens_per_second > 0
    (loaded,) = (await worker.state()).loaded
    assert loaded.state == types.MODEL_STATE_READY
    assert loaded.memory_bytes > loaded.weights_bytes > 0


async def test_sampling_options_reach_the_engine_and_log_probabilities_come_back(
    worker: Worker,
) -> None:
    responses = await worker.ask(
        "potluck-starter",
        logit_bias={0: -math.inf, 7: 1.5},
        json_schema='{"enum": ["cat"]}',
        dry=types.Dry(multiplier=0.5),
        xtc=types.Xtc(probability=0.5),
        logprobs=3,
    )
    assert text_of(responses) == '"cat"'
    deltas = [response.delta for response in responses if response.delta.token_ids]
    for delta in deltas:
        assert len(delta.logprobs) == len(delta.token_ids)
        for token, at in zip(delta.token_ids, delta.logprobs, strict=True):
            assert at.token_ids[0] == token
            assert len(at.token_ids) == len(at.logprobs) == 4
            assert at.logprobs[1] >= at.logprobs[2] >= at.logprobs[3]


async def test_two_answers_stream_side_by_side(worker: Worker, home: Home) -> None:
    add_fake(home, "slow", SLOW)
    order: list[str] = []

    async def ask(name: str) -> None:
        async for response in worker.stub.Generate(prompt("slow")):
            order.extend([name] * response.HasField("delta"))

    await asyncio.gather(ask("a"), ask("b"))
    assert abs(order[:40].count("a") - 20) < 8


async def test_a_closed_stream_cancels_in_the_engine(worker: Worker, home: Home) -> None:
    add_fake(home, "slow", SLOW)
    call = worker.stub.Generate(prompt("slow"))
    async for response in call:
        if response.HasField("delta"):
            break
    call.cancel()
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        if watched.state.loaded[0].slots_busy == 0:
            break


async def test_a_killed_engine_ends_its_answers_in_words_and_the_daemon_goes_on(
    worker: Worker, home: Home
) -> None:
    add_fake(home, "slow", SLOW)
    pid = (await worker.loaded("slow")).process_id
    responses = []
    async for response in worker.stub.Generate(prompt("slow")):
        responses.append(response)
        if len(responses) == 5:
            os.kill(pid, signal.SIGKILL)
    end = responses[-1].end
    assert end.error.code == types.ERROR_CODE_ENGINE_DIED
    assert "SIGKILL" in end.error.message
    assert WORDS.startswith(text_of(responses))
    assert text_of(await worker.ask("slow")) == WORDS


async def test_an_engine_that_aborts_says_so(worker: Worker, home: Home) -> None:
    add_fake(home, "frail", f'text = "{WORDS}"\ncrash_after_tokens = 3\n')
    end = (await worker.ask("frail"))[-1].end
    assert end.error.code == types.ERROR_CODE_ENGINE_DIED
    assert "aborted (SIGABRT)" in end.error.message


async def test_an_engine_that_dies_again_and_again_is_given_a_pause(
    worker: Worker, home: Home
) -> None:
    add_fake(home, "broken", "crash_on_load = true\n")
    messages = []
    for _ in range(3):
        error = await failure(worker, prompt("broken"))
        assert isinstance(error, EngineDied)
        messages.append(error.message)
    assert "aborted" in messages[0]
    assert "2 times in a row" in messages[2]


async def test_a_stalled_engine_is_found_by_its_silence(
    worker: Worker, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.supervisor.STALL_SECONDS", 1.0)
    add_fake(home, "frozen", SLOW)
    pid = (await worker.loaded("frozen")).process_id
    responses = []
    async for response in worker.stub.Generate(prompt("frozen")):
        responses.append(response)
        if len(responses) == 5:
            os.kill(pid, signal.SIGSTOP)
    end = responses[-1].end
    assert end.error.code == types.ERROR_CODE_STALLED
    assert "no progress" in end.error.message


async def test_what_does_not_fit_is_refused_with_the_numbers(worker: Worker, home: Home) -> None:
    add_fake(home, "giant", f"memory_bytes = {2**50}\n")
    error = await failure(worker, prompt("giant"))
    assert isinstance(error, NotEnoughMemory)
    assert "needs 1048576" in error.message
    assert "are free" in error.message


async def test_two_loads_cannot_have_the_same_memory(worker: Worker, home: Home) -> None:
    free = (await worker.state()).devices[0].memory_free_bytes
    for name in ("one", "two"):
        add_fake(home, name, f"memory_bytes = {int(free * 0.6)}\nload_seconds = 1.0\n")
    first = asyncio.create_task(worker.loaded("one"))
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        if watched.state.loaded:
            break
    assert isinstance(await failure(worker, prompt("two")), NotEnoughMemory)
    assert (await first).name == "one"


async def test_loads_of_one_model_share_one_child(worker: Worker, home: Home) -> None:
    add_fake(home, "m", "load_seconds = 0.3\n")
    loaded = await asyncio.gather(*(worker.loaded("m") for _ in range(4)))
    assert len({model.process_id for model in loaded}) == 1


async def test_an_unloaded_model_is_gone(worker: Worker, home: Home) -> None:
    add_fake(home, "m")
    pid = (await worker.loaded("m")).process_id
    await worker.stub.Unload(pb.UnloadRequest(model="m"))
    assert not (await worker.state()).loaded
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_cannot_be_asked_is_refused_in_words(worker: Worker, home: Home) -> None:
    add_fake(home, "m")
    assert isinstance(await failure(worker, prompt("nonsense")), UnknownModel)
    error = await failure(worker, prompt("m", stop=["x" * 2000]))
    assert isinstance(error, BadRequest)
    assert "2,000 characters" in error.message


async def test_a_draining_node_takes_no_new_work(worker: Worker, home: Home) -> None:
    add_fake(home, "m")
    await worker.stub.Drain(pb.DrainRequest(draining=True))
    assert isinstance(await failure(worker, prompt("m")), Draining)
    await worker.stub.Drain(pb.DrainRequest(draining=False))
    assert text_of(await worker.ask("m")) == "You said: Hi"


async def test_the_engines_log_can_be_read(worker: Worker) -> None:
    await worker.loaded("potluck-starter")
    request = pb.LogsRequest(model="potluck-starter", lines=500)
    (response,) = [response async for response in worker.stub.Logs(request)]
    assert any("KV buffer size" in line for line in response.lines)


async def test_without_a_pool_nobody_elsewhere_can_call(home: Home) -> None:
    async with running(home, WorkerSettings(name="node", listen="127.0.0.1:0")) as worker:
        assert worker.daemon.addresses == [network.unix_address(home.worker_socket)]
        listening = [c for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
        assert not listening
