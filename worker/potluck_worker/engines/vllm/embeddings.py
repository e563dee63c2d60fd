"""One request for embeddings under way in the vLLM engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from potluck_worker.engines.base import Embedded, RequestId


@dataclass(slots=True)
class Embedding:
    """Texts that vLLM embeds, each as a request of its own."""

    request_id: RequestId
    prompt_tokens: int
    vectors: dict[str, bytes | None]
    """By vLLM's names for the texts, in their order; `None` until one is computed."""

    @classmethod
    def of(cls, request_id: RequestId, texts: Sequence[Sequence[int]]) -> Embedding:
        """Return a request for the embeddings of texts, given as tokens."""
        names = [f"{request_id}/{number}" for number in range(len(texts))]
        return cls(request_id, sum(map(len, texts)), dict.fromkeys(names))

    def embedded(self) -> Embedded | None:
        """Return the frame that ends the request, once all texts are done."""
        done = [vector for vector in self.vectors.values() if vector is not None]
        if len(done) < len(self.vectors):
            return None
        return Embedded(self.request_id, done, self.prompt_tokens)


def unit_vector(tensor: Any) -> bytes:
    """Return a vector of PyTorch's scaled to unit length, as frames have it."""
    vector = tensor.double().numpy()
    length = float((vector**2).sum() ** 0.5)
    return bytes((vector / (length or 1.0)).astype("<f4").tobytes())
