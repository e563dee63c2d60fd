"""vLLM behind the seam: requests in, frames out; vLLM itself does the batching.

Text and stop strings are ours, as in the llama.cpp engine: what a viewer sees, where it is held
back and where an answer that moved goes on must not depend on who computes the tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from potluck_proto.errors import BadRequest, PotluckError, UnsupportedModel
from potluck_worker.engines.base import (
    Embed,
    EndReason,
    FromChild,
    Generate,
    Load,
    Loaded,
    RequestId,
    TokenLogprobs,
    failed,
)
from potluck_worker.engines.embedding_inputs import tokens_to_embed
from potluck_worker.engines.prompt import PromptMaker
from potluck_worker.engines.template import ChatTemplate
from potluck_worker.engines.text import AnswerText
from potluck_worker.engines.vllm import memory
from potluck_worker.engines.vllm.adapters import only_adapter
from potluck_worker.engines.vllm.answer import Answer
from potluck_worker.engines.vllm.checkpoint import Checkpoint
from potluck_worker.engines.vllm.core import Core
from potluck_worker.engines.vllm.embeddings import Embedding, unit_vector
from potluck_worker.engines.vllm.settings import constraint, sampling_options
from potluck_worker.engines.vllm.sizer import refuse_what_is_lacking
from potluck_worker.engines.vllm.tokens import TokenText, Vocabulary

IDLE_STEP_SECONDS = 0.001
"""A rest after a step in which nothing was computed, while a grammar is being prepared."""


class VllmEngine:
    """One checkpoint in memory.

    Args:
        progress: Called with 0 to 1 while the model loads.
    """

    def __init__(self, progress: Callable[[float], None] = lambda _: None) -> None:
        self._progress = progress
        self._answers: dict[RequestId, Answer] = {}
        self._waiting: dict[str, Answer] = {}
        """Those that vLLM has not begun, by its own names for them."""
        self._embeddings: dict[RequestId, Embedding] = {}
        self._ended: list[FromChild] = []
        self._fullness = 0.0

    def load(self, load: Load) -> Loaded:
        """Load the model. Raises `PotluckError` where vLLM cannot hold it as is asked."""
        refuse_what_is_lacking(load.kv_type, load.gpu_layers, load.flash_attention)
        checkpoint = Checkpoint.read(Path(load.path))
        adapter = only_adapter(load.lora_adapters)
        self._core = Core(load, checkpoint, adapter, self._progress)
        self._name = checkpoint.folder.name
        self._context_length = load.context_length
        self._recommended = checkpoint.generation
        self._vocabulary = Vocabulary(
            self._core.tokenizer, self._core.vocabulary_size, adds_start=not checkpoint.template
        )
        self._template = ChatTemplate(
            checkpoint.template,
            self._vocabulary.bos_text,
            self._vocabulary.eos_text,
            tool_use=checkpoint.tool_template,
            prompt_format=load.prompt_format,
        )
        self._prompts = PromptMaker(self._template, self._vocabulary)
        held = self._core.held_bytes()
        return Loaded(
            weights_bytes=held.weights or memory.weights_bytes(checkpoint, self._core.threads),
            kv_cache_bytes=held.kv_cache,
            compute_bytes=held.rest
            or memory.compute_bytes(checkpoint, load.slots, self._core.step_tokens),
            context_length=load.context_length,
            slots=load.slots,
            longest_step_seconds=memory.longest_step_seconds(
                checkpoint, self._core.step_tokens, self._core.threads
            ),
        )

    def submit(self, request: Generate | Embed) -> None:
        """Give a request to vLLM; what cannot be answered ends with the next step."""
        try:
            if isinstance(request, Embed):
                self._embed(request)
            else:
                self._answer(request)
        except PotluckError as error:
            self._ended.append(failed(request.request_id, error))

    def cancel(self, request_id: RequestId) -> None:
        """End a request, queued or under way."""
        if answer := self._answers.get(request_id):
            self._core.cancel(request_id)
            self._end(answer, "stopped", self._ended)
        elif embedding := self._embeddings.pop(request_id, None):
            self._core.cancel(*embedding.vectors)

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._answers or self._embeddings or self._ended)

    @property
    def slots_busy(self) -> int:
        """Sequences under way."""
        return len(self._answers) - len(self._waiting)

    @property
    def queue_length(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    @property
    def fullness(self) -> float:
        """How near it came to a whole batch, 0 to 1: the cache is whole from the start.

        On cards vLLM computes one when it loads.
        """
        return self._fullness if self._core.threads else 1.0

    def step(self) -> list[FromChild]:
        """Have vLLM compute one batch; return what came of it."""
        events, self._ended = self._ended, []
        if not (self._answers or self._embeddings):
            return events
        began = time.monotonic()
        outputs = self._core.step()
        for output in outputs:
            if answer := self._answers.get(output.request_id):
                if answer.started is None:
                    self._forget_waiting(answer)
                    self._begin(answer, output.num_cached_tokens, began, events)
                self._take(answer, output.outputs[0], events)
            else:
                self._take_vector(output, events)
        if self._waiting:
            self._begin_prefills(began, events)
        if not (outputs or self.slots_busy or self._embeddings):
            time.sleep(IDLE_STEP_SECONDS)
        return events

    def close(self) -> None:
        """Free the model."""
        self._core.close()

    # --- answers -------------------------------------------------------------------------------

    def _answer(self, request: Generate) -> None:
        """Give a request to vLLM. Raises `PotluckError`."""
        if not self._core.generates:
            raise UnsupportedModel(
                f"{self._name} embeds texts and cannot chat. Choose a model made for chat or "
                "completion."
            )
        asked = request.sampling
        options = sampling_options(asked, self._recommended, self._vocabulary.size)
        limits = constraint(asked)
        prompt, said = self._prompts.prompt_and_answer(request, self._name, self._context_length)
        answer = Answer(
            request=request,
            prompt_length=len(prompt),
            length=len(said),
            context_length=self._context_length,
            tokens=TokenText(self._vocabulary.decode, prompt),
            text=AnswerText((*asked.stop, *self._template.stop)),
        )
        answer.resume()
        if reason := answer.end_so_far():  # it moved between its last token and its end
            self._ended += [*answer.begin(0, time.monotonic()), *answer.finish(reason)]
            return
        options["max_tokens"] = answer.tokens_left
        name = self._core.generate(answer.id, prompt + said, options, limits)
        if limits and said:
            self._core.replay(answer.id, name, said)
        self._answers[answer.id] = self._waiting[name] = answer

    def _begin_prefills(self, began: float, events: list[FromChild]) -> None:
        """Report the requests that left vLLM's queue, and whose prompt takes several steps."""
        for name, cached in self._core.in_prefill().items():
            if answer := self._waiting.pop(name, None):
                self._begin(answer, cached, began, events)

    def _begin(self, answer: Answer, cached: int, began: float, events: list[FromChild]) -> None:
        """Report that an answer's prompt is being computed."""
        events += answer.begin(cached, began)
        computed = answer.prompt_length - answer.cached
        self._fullness = max(self._fullness, min(1.0, computed / self._core.step_tokens))

    def _take(self, answer: Answer, piece: Any, events: list[FromChild]) -> None:
        """Take what vLLM computed for an answer, and see whether it ends there."""
        tokens = list(piece.token_ids)
        if piece.finish_reason == "stop":
            tokens = tokens[:-1]  # the token that ends the turn is no part of it
        for at, token in enumerate(tokens):
            events.append(answer.take(token, _logprobs(answer, token, piece, at)))
            if answer.text.stop_string:
                break
        if piece.finish_reason == "error":
            error = PotluckError("vLLM could not compute the answer; its log may say why.")
            del self._answers[answer.id]
            events.append(failed(answer.id, error))
        elif answer.text.stop_string:
            self._core.cancel(answer.id)
            self._end(answer, "stop_string", events)
        elif piece.finish_reason == "stop":
            self._end(answer, "end_of_turn", events)
        elif piece.finish_reason is not None:
            self._end(answer, answer.end_so_far() or "context_full", events)

    def _end(self, answer: Answer, reason: EndReason, events: list[FromChild]) -> None:
        """Send the end of an answer, and forget it."""
        self._forget_waiting(answer)
        del self._answers[answer.id]
        events += answer.finish(reason)

    def _forget_waiting(self, answer: Answer) -> None:
        self._waiting = {
            name: other for name, other in self._waiting.items() if other is not answer
        }

    # --- embeddings ----------------------------------------------------------------------------

    def _embed(self, request: Embed) -> None:
        """Give texts to vLLM, each as a request of its own. Raises `PotluckError`."""
        if not self._core.embeds:
            raise BadRequest(
                f"{self._name} writes and embeds nothing. Take a model that is made to embed."
            )
        texts = tokens_to_embed(
            request.inputs, self._vocabulary.tokenize_whole, self._name, self._context_length
        )
        embedding = Embedding.of(request.request_id, texts)
        try:
            for name, tokens in zip(embedding.vectors, texts, strict=True):
                self._core.embed(name, tokens)
        except PotluckError:
            self._core.cancel(*embedding.vectors)
            raise
        self._embeddings[request.request_id] = embedding

    def _take_vector(self, output: Any, events: list[FromChild]) -> None:
        """Take the embedding of one text."""
        embedding = self._embeddings.get(output.request_id.rpartition("/")[0])
        if embedding is None:
            return
        embedding.vectors[output.request_id] = unit_vector(output.outputs.data)
        if embedded := embedding.embedded():
            del self._embeddings[embedding.request_id]
            events.append(embedded)


def _logprobs(answer: Answer, token: int, piece: Any, at: int) -> list[TokenLogprobs]:
    """Return the log probabilities of a position where they were asked for, the drawn token first.

    vLLM has the likeliest, and the drawn one beside them where it is none of them.
    """
    wanted = answer.request.sampling.logprobs
    if wanted is None:
        return []
    known: Mapping[int, Any] = piece.logprobs[at]
    likeliest = sorted(known, key=lambda other: int(known[other].rank))[:wanted]
    ids = [token, *likeliest]
    return [TokenLogprobs(ids, [float(known[other].logprob) for other in ids])]
