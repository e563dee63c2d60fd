from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Callable

import psutil

from e2e.conftest import POTLUCK, Machine, submit
from potluck_proto.daemon import running_instance
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.client import PoolClient

LONG = "Write me a long story about a house full of computers."
FIFTY_WORDS = " ".join(f"word{number}" for number in range(50))


async def follow(
    client: PoolClient,
    generation_id: str,
    from_offset: int = 0,
    on_first_delta: Callable[[], None] = lambda: None,
) -> tuple[str, types.End]:
    """Return an answer's text from an offset on, and its end."""
    text = ""
    async for event in client.attach(generation_id, from_offset):
        if event is None:
            continue
        if event.HasField("delta"):
            if not text:
                on_first_delta()
            assert event.delta.text_offset == from_offset + len(text)
            text += event.delta.text
        if event.HasField("end"):
            return text, event.end
    raise AssertionError("the stream ended without an end")


def process_of(machine: Machine, name: str) -> psutil.Process:
    """Return the process of a daemon."""
    instance = running_instance(machine.home, name)
    assert instance is not None
    return psutil.Process(instance["process_id"])


async def engine_process_id(client: PoolClient) -> int:
    """Return the process id of the only loaded model's engine."""
    nodes = (await client.call(client.stub.ListNodes, pb.ListNodesRequest())).nodes
    (loaded,) = nodes[0].state.loaded
    return loaded.process_id


async def test_a_killed_engine_starts_again_and_its_answer_goes_on(machine: Machine) -> None:
    assert machine.potluck("ask", "Hi").returncode == 0
    worker = running_instance(machine.home, "worker")
    async with machine.client() as client:
        engine = await engine_process_id(client)
        submitted = await submit(client, LONG)
        text, end = await follow(
            client,
            submitted.generation_id,
            on_first_delta=lambda: os.kill(engine, signal.SIGKILL),
        )
        assert end.reason == types.END_REASON_END_OF_TURN
        stored = await client.call(
            client.stub.GetChat, pb.GetChatRequest(chat_id=submitted.chat_id)
        )
        answer = stored.messages[-1]
        assert answer.content == text
        assert all("its engine on" in seam.reason for seam in answer.seams)
    again = machine.potluck("ask", "Hi")
    assert again.returncode == 0, again.stderr
    assert running_instance(machine.home, "worker") == worker


async def test_two_prompts_at_once_stream_side_by_side(machine: Machine) -> None:
    assert machine.potluck("ask", "Hi").returncode == 0
    order: list[str] = []
    async with machine.client() as client:

        async def run(name: str) -> None:
            submitted = await submit(client, LONG)
            async for event in client.attach(submitted.generation_id):
                if event is not None and event.HasField("delta"):
                    order.append(name)
                if event is not None and event.HasField("end"):
                    assert event.end.reason != types.END_REASON_FAILED

        async with asyncio.TaskGroup() as group:
            group.create_task(run("a"))
            group.create_task(run("b"))
    last_of_first = max(i for i, name in enumerate(order) if name == order[0])
    first_of_second = min(i for i, name in enumerate(order) if name != order[0])
    both = order[first_of_second : last_of_first + 1]
    changes = sum(left != right for left, right in itertools.pairwise(both))
    assert changes >= 5, order


async def test_an_answer_goes_on_when_its_viewer_is_killed(machine: Machine) -> None:
    machine.add_fake_model("slow", text=FIFTY_WORDS, tokens_per_second=50)
    viewer = await asyncio.create_subprocess_exec(
        POTLUCK,
        *("ask", "-m", "slow", "Hi"),
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert viewer.stdout is not None
    assert await viewer.stdout.read(1)
    viewer.kill()
    await viewer.communicate()
    async with machine.client() as client:
        (chat,) = (await client.call(client.stub.ListChats, pb.ListChatsRequest())).chats
        stored = await client.call(client.stub.GetChat, pb.GetChatRequest(chat_id=chat.chat_id))
        seen = stored.messages[-1].content
        rest, end = await follow(client, stored.messages[-1].generation_id, len(seen))
        assert seen + rest == FIFTY_WORDS
        assert end.reason == types.END_REASON_END_OF_TURN


async def test_a_killed_worker_is_started_again_and_its_answer_goes_on(machine: Machine) -> None:
    machine.add_fake_model("slow", text=FIFTY_WORDS, tokens_per_second=50)
    assert machine.potluck("ask", "-m", "slow", "Hi").returncode == 0
    worker = process_of(machine, "worker")
    async with machine.client() as client:
        submitted = await submit(client, "Hi", "slow")
        following = asyncio.create_task(
            follow(client, submitted.generation_id, on_first_delta=worker.kill)
        )
        await asyncio.to_thread(worker.wait)
        assert machine.potluck("up").returncode == 0
        text, end = await following
    assert text == FIFTY_WORDS
    assert end.reason == types.END_REASON_END_OF_TURN


async def test_a_killed_scheduler_loses_no_word_and_its_answer_goes_on(machine: Machine) -> None:
    machine.add_fake_model("slow", text=FIFTY_WORDS, tokens_per_second=20)
    assert machine.potluck("up").returncode == 0
    assert machine.potluck("ask", "-m", "slow", "--max-tokens", "1", "Hi").returncode == 0
    scheduler = process_of(machine, "scheduler")
    async with machine.client() as client:
        submitted = await submit(client, "Remember this", "slow")
        following = asyncio.create_task(follow(client, submitted.generation_id))
        words = 0
        async for event in client.attach(submitted.generation_id):
            words += event is not None and event.HasField("delta")
            if words == 15:
                break
        scheduler.kill()
        await asyncio.to_thread(scheduler.wait)
        assert machine.potluck("nodes").returncode == 0
        text, end = await following
        assert (text, end.reason) == (FIFTY_WORDS, types.END_REASON_END_OF_TURN)
        request = pb.GetChatRequest(chat_id=submitted.chat_id)
        user, answer = (await client.call(client.stub.GetChat, request)).messages
        assert user.content == "Remember this"
        assert answer.content == FIFTY_WORDS
        assert [seam.reason for seam in answer.seams] == ["the scheduler was restarted"]
