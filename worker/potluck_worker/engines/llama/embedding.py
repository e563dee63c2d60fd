"""Embedding texts: beside the answers of a model that chats, or with a model made for nothing else.

A causal model embeds in the context in which it answers, in sequences of its own and a few tokens a
step: that takes no memory of its own and delays no answer for long. A model that looks at a text
from both ends computes each text whole, in a context that does nothing else.

A text becomes one vector of unit length. How is said by the model's file: the mean of its tokens'
vectors, the first token's, or the last one's; where the file says nothing, it is the mean.
llama.cpp gives out the vectors of the tokens, and they are pooled here, since a causal model
computes a text in parts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from llama_cpp import llama_cpp as api
from numpy.typing import NDArray

from potluck_proto.errors import ModelFileError, PotluckError
from potluck_worker.engines.base import Embed, Embedded, FromChild, RequestId, failed
from potluck_worker.engines.embedding_inputs import tokens_to_embed
from potluck_worker.engines.llama import library
from potluck_worker.engines.llama.cache import Held
from potluck_worker.engines.llama.decoder import Decoder
from potluck_worker.engines.llama.vocabulary import Vocabulary

Vectors = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Job:
    """A request under way."""

    request: Embed
    prompt_tokens: int
    vectors: dict[int, bytes] = field(default_factory=dict)
    """The embeddings so far, by the index of the input."""


@dataclass(slots=True, eq=False)
class Text:
    """One input of a request: it waits, or has a place in the cache."""

    job: Job
    index: int
    tokens: list[int]
    held: Held | None = None
    pooled: NDArray[np.float64] | None = None
    """What the tokens in the cache add up to; its length means nothing."""

    @property
    def computed(self) -> int:
        """Tokens that are in the cache."""
        return len(self.held.tokens) if self.held else 0


class Embedder:
    """Embeds the texts of requests, first come, first served.

    Args:
        model: The model.
        vocabulary: Its vocabulary.
        decoder: Computes; its context does not pool.
        longest: Tokens of the longest text.
    """

    def __init__(
        self,
        model: library.Model,
        vocabulary: Vocabulary,
        decoder: Decoder,
        longest: int,
    ) -> None:
        self._name = model.name
        self._pooling = model.pooling
        self._width = int(api.llama_model_n_embd_out(model.pointer))
        self._in_parts = not model.embeds_only
        self._vocabulary = vocabulary
        self._decoder = decoder
        self._batch, self._cache = decoder.batch, decoder.cache
        self._longest = longest
        self._waiting: deque[Text] = deque()
        self._running: list[Text] = []

    @property
    def waiting(self) -> int:
        """Texts without a place."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Texts under way."""
        return len(self._running)

    @property
    def cells(self) -> int:
        """Cells of the cache that the texts under way have, or will need."""
        return sum(len(text.tokens) for text in self._running)

    @property
    def jobs_waiting(self) -> int:
        """Requests of which no text is under way or done."""
        begun = {text.job.request.request_id for text in self._running}
        jobs = {text.job.request.request_id: text.job for text in self._waiting}
        return sum(not job.vectors and name not in begun for name, job in jobs.items())

    def submit(self, request: Embed) -> None:
        """Queue the texts of a request.

        Raises:
            BadRequest: One is empty, or there is none.
            ContextOverflow: One is longer than the context.
        """
        inputs = tokens_to_embed(
            request.inputs, self._vocabulary.tokenize_alone, self._name, self._longest
        )
        job = Job(request, sum(map(len, inputs)))
        self._waiting += [Text(job, index, tokens) for index, tokens in enumerate(inputs)]

    def cancel(self, request_id: RequestId) -> bool:
        """Drop a request; return whether it was there."""
        mine = [
            text
            for text in (*self._waiting, *self._running)
            if text.job.request.request_id == request_id
        ]
        self._drop(mine)
        return bool(mine)

    def admit(self, slots: int, cells: int) -> None:
        """Begin texts while no more than `slots` are under way and `cells` are free for them."""
        while self._waiting and len(self._running) < slots:
            cells -= len(self._waiting[0].tokens)
            if cells < 0:
                return
            text = self._waiting.popleft()
            text.held = self._cache.take_empty()
            self._running.append(text)

    def step_back(self) -> bool:
        """Give up the place of the youngest text, which begins anew later; false if there is none.

        For answers that need its cells.
        """
        if not self._running:
            return False
        text = self._running.pop()
        self._release(text)
        text.pooled = None
        self._waiting.appendleft(text)
        return True

    def step(self, room: int, *, alone: bool) -> list[FromChild]:
        """Compute `room` tokens of the texts under way; return the requests that ended.

        Args:
            room: At most so many tokens, unless a text that cannot be cut is longer.
            alone: Whether nobody else is in the cache, who could make room in it.
        """
        parts = self._fill_batch(room)
        if not parts:
            return []
        # All tokens of a batch give out vectors or none does, so answers have batches of their own.
        context = self._decoder.context
        api.llama_set_embeddings(context, True)
        code = self._decoder.compute()
        api.llama_set_embeddings(context, False)
        if code == library.NO_ROOM and not (alone and len(self._running) == 1):
            self.step_back()
            return []
        if code != 0:
            return self._fail_all(parts, code)
        first = api.llama_get_embeddings(context)
        vectors = np.ctypeslib.as_array(first, (len(self._batch), self._width))
        events: list[FromChild] = []
        for text, count in parts:
            events += self._take_in(text, vectors[:count])
            vectors = vectors[count:]
        return events

    def _fill_batch(self, room: int) -> list[tuple[Text, int]]:
        """Fill the batch; return whose tokens are in it, and how many."""
        self._batch.clear()
        parts: list[tuple[Text, int]] = []
        for text in self._running:
            count = len(text.tokens) - text.computed
            if self._in_parts:
                count = min(count, room)
            elif parts and count > room:
                break
            if count <= 0:
                break
            assert text.held is not None
            tokens = text.tokens[text.computed : text.computed + count]
            self._batch.add(text.held.id, text.computed, tokens, gives_vectors=True)
            parts.append((text, count))
            room -= count
        return parts

    def _take_in(self, text: Text, vectors: Vectors) -> list[FromChild]:
        """Pool the vectors of further tokens; return the request if that was its last text."""
        if text not in self._running:
            return []  # another text of the same request failed
        assert text.held is not None
        if self._pooling == api.LLAMA_POOLING_TYPE_LAST:
            text.pooled = vectors[-1].astype(np.float64)
        elif text.pooled is None:
            first = self._pooling == api.LLAMA_POOLING_TYPE_CLS
            text.pooled = (
                vectors[0].astype(np.float64) if first else vectors.sum(axis=0, dtype=np.float64)
            )
        elif self._pooling != api.LLAMA_POOLING_TYPE_CLS:
            text.pooled += vectors.sum(axis=0, dtype=np.float64)
        text.held.tokens += text.tokens[text.computed : text.computed + len(vectors)]
        return self._finish(text) if text.computed == len(text.tokens) else []

    def _finish(self, text: Text) -> list[FromChild]:
        """Note a text's embedding; return its request if all of it is done."""
        assert text.pooled is not None
        job = text.job
        length = float(np.linalg.norm(text.pooled))
        if not np.isfinite(length):
            error = ModelFileError(
                f"{self._name} computes no numbers for input {text.index + 1}: its file is "
                "damaged. Download it again."
            )
            return [self._fail(job, error)]
        unit = text.pooled / max(length, 1e-30)
        job.vectors[text.index] = unit.astype("<f4").tobytes()
        self._drop([text])
        inputs = len(job.request.inputs)
        if len(job.vectors) < inputs:
            return []
        vectors = [job.vectors[index] for index in range(inputs)]
        return [Embedded(job.request.request_id, vectors, job.prompt_tokens)]

    def _fail_all(self, parts: list[tuple[Text, int]], code: int) -> list[FromChild]:
        """End the requests of a batch that could not be computed."""
        error = PotluckError(f"llama.cpp could not compute a step of embedding: {code}.")
        jobs = dict.fromkeys(text.job for text, _ in parts)
        return [self._fail(job, error) for job in jobs]

    def _fail(self, job: Job, error: PotluckError) -> FromChild:
        self.cancel(job.request.request_id)
        return failed(job.request.request_id, error)

    def _drop(self, texts: list[Text]) -> None:
        """Let go of texts."""
        for text in texts:
            if text.held is None:
                self._waiting.remove(text)
            else:
                self._running.remove(text)
                self._release(text)

    def _release(self, text: Text) -> None:
        assert text.held is not None
        self._cache.clear(text.held)
        self._cache.release(text.held)
        text.held = None
