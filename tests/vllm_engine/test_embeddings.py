from __future__ import annotations

import grpc
import numpy as np
import pytest

from potluck_proto.errors import (
    BadRequest,
    ContextOverflow,
    PotluckError,
    UnsupportedModel,
    from_rpc,
)
from potluck_proto.v1 import worker_pb2 as pb
from worker.conftest import Worker

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def refused(worker: Worker, model: str, *inputs: str) -> PotluckError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await worker.stub.Embed(pb.EmbedRequest(model=model, inputs=inputs))
    return from_rpc(caught.value, "The worker")


async def test_texts_are_embedded_each_as_if_alone(worker: Worker) -> None:
    texts = [f"text number {number}" for number in range(9)]
    request = pb.EmbedRequest(model="embedder", inputs=[*texts, texts[0]])
    response = await worker.stub.Embed(request)
    vectors = np.array([embedding.values for embedding in response.embeddings])
    assert vectors.shape == (10, 128)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[9], atol=0.02)
    assert not np.allclose(vectors[0], vectors[1], atol=0.02)
    alone = await worker.stub.Embed(pb.EmbedRequest(model="embedder", inputs=[texts[4]]))
    assert np.allclose(alone.embeddings[0].values, vectors[4], atol=0.02)


async def test_what_cannot_be_embedded_is_refused_in_words(worker: Worker) -> None:
    assert isinstance(await refused(worker, "embedder", "fine", ""), BadRequest)
    long = await refused(worker, "embedder", "x" * 600)
    assert isinstance(long, ContextOverflow)
    assert "Input 1 is 600 tokens long" in long.message
    assert "embeds nothing" in (await refused(worker, "llama", "text")).message


async def test_a_model_that_embeds_cannot_chat(worker: Worker) -> None:
    (response,) = await worker.ask("embedder")
    assert response.end.error.code == UnsupportedModel.code
    assert "embeds texts and cannot chat" in response.end.error.message
