from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from lineages.gguf_file import write
from lineages.kinds import LINEAGES
from lineages.make import metadata, tensors
from potluck_proto.errors import BadRequest, UnknownModel, from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from worker.conftest import Worker, running


@pytest.fixture
def home(short_tmp: Path) -> Home:
    """A home with a model that has no chat template."""
    home = Home(short_tmp)
    home.prepare()
    kind = LINEAGES["llama"]
    said = metadata(kind, "plain")
    del said["tokenizer.chat_template"]
    write(home.models / "plain-F32.gguf", "llama", said, tensors(kind))
    return home


@pytest.fixture
async def worker(home: Home) -> AsyncIterator[Worker]:
    async with running(home) as worker:
        yield worker


async def choose(worker: Worker, template: str, model: str = "plain") -> None:
    await worker.stub.SetTemplate(pb.SetTemplateRequest(model=model, template=template))


async def described(worker: Worker) -> types.ModelDescription:
    return next(model for model in (await worker.state()).models if model.name == "plain")


async def prompt_tokens(worker: Worker) -> int:
    end = (await worker.ask("plain", "the house", max_tokens=1))[-1].end
    return end.usage.prompt_tokens


async def test_a_model_in_memory_is_asked_in_the_format_that_was_chosen_from_the_next_answer_on(
    worker: Worker, home: Home
) -> None:
    before = await prompt_tokens(worker)
    assert "`potluck template plain completion`" in (await described(worker)).note
    await choose(worker, "vicuna")
    assert (await described(worker)).has_chat_template
    assert not (await described(worker)).note
    vicuna = await prompt_tokens(worker)
    await choose(worker, "completion")
    completion = await prompt_tokens(worker)
    assert completion < before < vicuna
    await choose(worker, "")
    assert (await described(worker)).note
    assert await prompt_tokens(worker) == before


async def test_what_was_chosen_outlives_a_restart(home: Home) -> None:
    async with running(home) as worker:
        await choose(worker, "alpaca")
        chosen = (await described(worker)).template_sha256
    async with running(home) as worker:
        assert (await described(worker)).template_sha256 == chosen
    home.templates_file.write_text("{]")
    async with running(home) as worker:
        assert not (await described(worker)).has_chat_template


async def test_a_format_or_a_model_that_is_not_there_is_refused(worker: Worker) -> None:
    for model, name, error, words in (
        ("plain", "klingon", BadRequest, "no prompt format 'klingon'. There are completion"),
        ("other", "vicuna", UnknownModel, "no model 'other'"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await choose(worker, name, model)
        refused = from_rpc(caught.value, "the worker")
        assert isinstance(refused, error)
        assert words in refused.message
    assert (await described(worker)).note
