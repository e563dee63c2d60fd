"""Broken models beside good ones: the daemon says what is wrong, and goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc

from lineages.kinds import qwen3
from lineages.make import Lineage, make
from lineages.vocabularies import Vocabulary
from potluck_proto.errors import (
    ModelFileError,
    PotluckError,
    TemplateError,
    from_proto,
    from_rpc,
)
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from worker.conftest import Worker, prompt, text_of

ENDLESS = (
    "{% if messages[0].content == 'loop' %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}"
)


def with_template(source: str) -> Lineage:
    vocabulary = qwen3().vocabulary
    said = {**vocabulary.metadata, "tokenizer.chat_template": source}
    return replace(qwen3(), vocabulary=Vocabulary(said, vocabulary.size, vocabulary.end))


async def failure(worker: Worker, model: str, content: str = "Hi") -> PotluckError:
    """Return what a request failed with, before or after its engine had it."""
    try:
        responses = await worker.ask(model, content)
    except grpc.aio.AioRpcError as error:
        return from_rpc(error, "The worker")
    assert responses[-1].end.reason == types.END_REASON_FAILED
    return from_proto(responses[-1].end.error)


async def test_a_broken_model_is_refused_in_a_sentence_and_the_others_answer(
    worker: Worker, home: Home
) -> None:
    whole = qwen3()
    lacking = {n: s for n, s in whole.layout.items() if n != "blk.1.ffn_up.weight"}
    make(home.models / "lacking.gguf", replace(whole, layout=lacking))
    make(home.models / "torn.gguf", with_template("{% if %}"))
    error = await failure(worker, "lacking")
    assert isinstance(error, ModelFileError)
    assert error.message == (
        "lacking.gguf cannot be loaded: tensor 'blk.1.ffn_up.weight' not found. Download it again."
    )
    listed = {model.name: model for model in (await worker.state()).models}
    assert listed["lacking"].problem.message == error.message
    assert not listed["lacking"].engines
    torn = await failure(worker, "torn")
    assert isinstance(torn, TemplateError)
    assert "chat template is broken" in torn.message
    assert "bits" in text_of(await worker.ask("potluck-starter", "What is quantization?"))


async def test_a_template_that_raises_or_loops_ends_its_own_answer_alone(
    worker: Worker, home: Home
) -> None:
    make(home.models / "loops.gguf", with_template(ENDLESS))
    make(home.models / "raises.gguf", with_template("{{ raise_exception('Only poems.') }}"))
    raised = await failure(worker, "raises")
    assert isinstance(raised, TemplateError)
    assert "Only poems." in raised.message
    process = (await worker.loaded("loops")).process_id
    looping = asyncio.create_task(failure(worker, "loops", "loop"))
    other = [r async for r in worker.stub.Generate(prompt("loops", "the house", max_tokens=5))]
    looped = await looping
    assert isinstance(looped, TemplateError)
    assert "takes longer than 5 seconds" in looped.message
    assert other[-1].end.reason == types.END_REASON_MAX_TOKENS
    loaded = {model.name: model for model in (await worker.state()).loaded}
    assert loaded["loops"].process_id == process, "the engine lives on"
