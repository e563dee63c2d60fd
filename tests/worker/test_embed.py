"""Embedding through the daemon and a real engine child."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import Sequence

import grpc
import pytest

from lineages.kinds import ENCODERS, gemma3
from lineages.make import make
from potluck_proto.errors import (
    BadRequest,
    ContextOverflow,
    EngineDied,
    PotluckError,
    from_rpc,
)
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.engines import fake
from worker.conftest import Worker, add_fake, prompt, text_of


async def embed(worker: Worker, model: str, inputs: Sequence[str]) -> pb.EmbedResponse:
    return await worker.stub.Embed(pb.EmbedRequest(model=model, inputs=inputs))


async def refusal(worker: Worker, model: str, inputs: Sequence[str]) -> PotluckError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embed(worker, model, inputs)
    return from_rpc(caught.value, "The worker")


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))


async def test_a_vector_comes_for_each_text(worker: Worker, home: Home) -> None:
    add_fake(home, "m")
    response = await embed(worker, "m", ["one two", "three"])
    assert response.prompt_tokens == 3
    for text, embedding in zip(("one two", "three"), response.embeddings, strict=True):
        expected = struct.unpack(f"<{fake.EMBEDDING_LENGTH}f", fake.embedding(text))
        assert tuple(embedding.values) == expected


async def test_a_model_embeds_while_it_answers(worker: Worker, home: Home) -> None:
    make(home.models / "gemma.gguf", gemma3())
    answer = asyncio.create_task(worker.ask("gemma", "the house", max_tokens=50))
    response = await embed(worker, "gemma", ["the house", "the house", "a computer"])
    same, again, other = (list(embedding.values) for embedding in response.embeddings)
    assert cosine(same, again) == pytest.approx(1, abs=1e-4)
    assert cosine(same, other) < 0.9
    assert text_of(await answer)
    assert len((await worker.state()).loaded) == 1


async def test_a_model_that_only_embeds_is_listed_as_one_and_refuses_to_chat(
    worker: Worker, home: Home
) -> None:
    make(home.models / "bert.gguf", ENCODERS["bert"])
    response = await embed(worker, "bert", ["the house"])
    assert len(response.embeddings[0].values) == 64
    responses = [r async for r in worker.stub.Generate(prompt("bert"))]
    error = responses[-1].end.error
    assert error.code == types.ERROR_CODE_UNSUPPORTED_MODEL
    assert "bert embeds texts and cannot chat" in error.message
    listed = {model.name: model for model in (await worker.state()).models}
    assert listed["bert"].embeds_only
    assert not listed["potluck-starter"].embeds_only


async def test_what_cannot_be_embedded_is_said(worker: Worker, home: Home) -> None:
    add_fake(home, "m", "context_length = 50")
    none = await refusal(worker, "m", [])
    assert isinstance(none, BadRequest)
    many = await refusal(worker, "m", ["a"] * 513)
    assert isinstance(many, BadRequest)
    assert "513 inputs" in many.message
    assert "512" in many.message
    large = await refusal(worker, "m", ["a" * 2**21] * 3)
    assert isinstance(large, BadRequest)
    assert "6,291,456 characters" in large.message
    assert "Input 1 is empty" in (await refusal(worker, "m", [""])).message
    long = await refusal(worker, "m", ["a " * 51])
    assert isinstance(long, ContextOverflow)
    assert "51 tokens" in long.message
    assert "50" in long.message


async def test_an_engine_that_dies_ends_an_embedding_in_words(worker: Worker, home: Home) -> None:
    make(home.models / "gemma.gguf", gemma3())
    pid = (await worker.loaded("gemma")).process_id
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.create_task(refusal(worker, "gemma", ["the house"]))
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        if watched.state.loaded[0].idle_seconds == 0:
            break
    os.kill(pid, signal.SIGKILL)
    assert isinstance(await waiting, EngineDied)


async def test_an_embedding_that_nobody_waits_for_is_cancelled(worker: Worker, home: Home) -> None:
    make(home.models / "gemma.gguf", gemma3())
    await worker.loaded("gemma")
    texts = ["the house and the computer " * 60] * 512
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await embed(worker, "gemma", texts)
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        if watched.state.loaded[0].slots_busy == watched.state.loaded[0].queue_length == 0:
            break
