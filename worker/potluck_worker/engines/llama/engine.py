"""Continuous batching over llama.cpp: one `llama_decode` a step, for all sequences together.

A step takes the newest token of each sequence that decodes, or prompt tokens of sequences in
prefill, computes them, and draws one token wherever logits came out. The two kinds take turns: a
processor computes a batch of both more slowly than one of each. The prompt's share is measured in
time, so that a long prompt neither stalls the others nor delays a cancellation for long.

A request is admitted while there are slots and cells of the KV cache for its prompt. Answers grow;
when the cells run out, what ended answers left behind goes first, then the youngest answer steps
back into the queue with the tokens that it has, and is computed again when there is room.

Texts to embed have steps of their own, after those of the answers. They take slots as well, all but
one at most; while texts wait, one slot is theirs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from potluck_proto.errors import PotluckError, UnsupportedModel
from potluck_worker.engines.base import (
    Embed,
    Finished,
    FromChild,
    Generate,
    Load,
    Loaded,
    Produced,
    RequestId,
    Started,
    failed,
    failure_of,
)
from potluck_worker.engines.llama import devices, library
from potluck_worker.engines.llama.adapters import apply_adapters
from potluck_worker.engines.llama.decoder import Decoder
from potluck_worker.engines.llama.embedding import Embedder
from potluck_worker.engines.llama.grammar import Complete
from potluck_worker.engines.llama.pace import SMALLEST_CHUNK_TOKENS, Pace
from potluck_worker.engines.llama.sampling import Samplers
from potluck_worker.engines.llama.sequence import Part, Sequence
from potluck_worker.engines.llama.vocabulary import Vocabulary
from potluck_worker.engines.prompt import PromptMaker
from potluck_worker.engines.template import ChatTemplate
from potluck_worker.engines.text import AnswerText

HEADROOM_TOKENS = 64
"""Cells that are free for the answer when a request is admitted."""

EMBEDDED_LEAST_TOKENS = 4
"""What a step embeds beside answers, however slow the machine is: nobody watches an embedding."""


class LlamaEngine:
    """One GGUF model in memory.

    Args:
        progress: Called with 0 to 1 while the model loads.
    """

    def __init__(self, progress: Callable[[float], None] = lambda _: None) -> None:
        self._progress = progress
        self._submitted: deque[tuple[Generate | Embed, float]] = deque()
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._ended: list[FromChild] = []
        self._fullness = 0.0
        self._prompts_turn = False

    def load(self, load: Load) -> Loaded:
        """Load the model. Raises `ModelError` for a file that cannot be."""
        log = library.start()
        self._model = library.Model(
            Path(load.path),
            log,
            gpu_layers=load.gpu_layers,
            host_experts=load.host_experts,
            progress=self._progress,
        )
        self._model.require_use()
        self._name, self._embeds_only = self._model.name, self._model.embeds_only
        self._context_length, self._slots = load.context_length, load.slots
        self._read_vocabulary(load)
        self._decoder = Decoder(self._model, load)
        self._batch, self._cache = self._decoder.batch, self._decoder.cache
        apply_adapters(self._model, self._decoder.context, list(map(Path, load.lora_adapters)))
        self._embedder = Embedder(self._model, self._vocabulary, self._decoder, load.context_length)
        token_seconds = self._decoder.warm_up()
        self._pace = Pace(token_seconds)
        taken = sum(devices.breakdown(self._decoder.context).values(), devices.Taken())
        late_bytes = self._model.late_bytes(load.context_length, load.slots)
        return Loaded(
            weights_bytes=taken.weights_bytes + log.adapters_bytes,
            kv_cache_bytes=taken.kv_cache_bytes,
            compute_bytes=taken.compute_bytes + log.output_bytes + late_bytes,
            context_length=load.context_length,
            slots=load.slots,
            flash_attention=log.flash_attention,
            longest_step_seconds=token_seconds * self._most_tokens(),
        )

    def _read_vocabulary(self, load: Load) -> None:
        """Read what makes prompts and draws tokens. Raises `TemplateError`."""
        metadata = self._model.metadata()
        self._vocabulary = Vocabulary(self._model.vocabulary)
        self._template = ChatTemplate(
            metadata.get("tokenizer.chat_template", ""),
            self._vocabulary.bos_text,
            self._vocabulary.eos_text,
            tool_use=metadata.get("tokenizer.chat_template.tool_use", ""),
            prompt_format=load.prompt_format,
        )
        self._prompts = PromptMaker(self._template, self._vocabulary)
        self._samplers = Samplers(self._vocabulary, metadata, load.context_length)

    def _most_tokens(self) -> int:
        """Return the tokens that a step may have however slow the machine is."""
        if self._embeds_only:
            return self._batch.capacity  # a text that it embeds cannot be cut
        return max(SMALLEST_CHUNK_TOKENS + self._slots, library.EMBEDDED_TOGETHER)

    def submit(self, request: Generate | Embed) -> None:
        """Queue a request."""
        self._submitted.append((request, time.monotonic()))

    def cancel(self, request_id: RequestId) -> None:
        """End a request, queued or under way."""
        if self._embedder.cancel(request_id):
            self._ended.append(Finished(request_id, "stopped"))
        for entry in self._submitted:
            if entry[0].request_id == request_id:
                self._submitted.remove(entry)
                self._ended.append(Finished(request_id, "stopped"))
                return
        for sequence in (*self._waiting, *self._running):
            if sequence.request.request_id == request_id and sequence.end is None:
                sequence.end = "stopped"

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        answers = self._submitted or self._waiting or self._running or self._ended
        return bool(answers or self._embedder.running or self._embedder.waiting)

    @property
    def slots_busy(self) -> int:
        """Sequences under way."""
        return min(self._slots, len(self._running) + self._embedder.running)

    @property
    def queue_length(self) -> int:
        """Requests that wait for a slot."""
        return len(self._submitted) + len(self._waiting) + self._embedder.jobs_waiting

    @property
    def fullness(self) -> float:
        """How near it came to a whole batch at the end of a full cache, 0 to 1."""
        return self._fullness

    def step(self) -> list[FromChild]:
        """Admit, compute one batch, draw; return what came of it."""
        events, self._ended = self._ended, []
        self._prepare(events)
        self._retire(events)
        self._admit(events)
        while (parts := self._fill_batch()) and not self._compute(parts, events):
            pass
        self._embed(events)
        self._retire(events)
        return events

    def close(self) -> None:
        """Free the model."""
        self._samplers.close()
        self._decoder.close()
        self._model.close()

    # --- admission -----------------------------------------------------------------------------

    def _prepare(self, events: list[FromChild]) -> None:
        """Make the prompts of new requests, so that what cannot be answered is said at once."""
        while self._submitted:
            request, submitted = self._submitted.popleft()
            try:
                if isinstance(request, Embed):
                    self._embedder.submit(request)
                elif self._embeds_only:
                    raise UnsupportedModel(
                        f"{self._name} embeds texts and cannot chat. Choose a model made for chat "
                        "or completion."
                    )
                else:
                    self._waiting.append(self._sequence(request, submitted))
            except PotluckError as error:
                events.append(failed(request.request_id, error))

    def _sequence(self, request: Generate, submitted: float) -> Sequence:
        """Return a request with its prompt, and what it has where it moved here.

        Raises `PotluckError` where it cannot be answered.
        """
        asked = request.sampling
        prompt, answer = self._prompts.prompt_and_answer(request, self._name, self._context_length)
        return Sequence(
            request=request,
            tokens=prompt + answer,
            prompt_length=len(prompt),
            context_length=self._context_length,
            sampler=self._samplers.begin(asked, prompt, answer),
            text=AnswerText((*asked.stop, *self._template.stop)),
            submitted=submitted,
        )

    def _admit(self, events: list[FromChild]) -> None:
        """Give slots and cells to waiting requests, first come, first served."""
        texts = self._embedder
        if self._embeds_only:
            texts.admit(self._model.sequences(self._slots), self._decoder.cells)
            return
        kept = 1 if texts.waiting and self._slots > 1 else 0
        slots = self._slots - max(texts.running, kept)
        free_cells = self._decoder.cells - texts.cells
        free_cells -= sum(len(sequence.tokens) for sequence in self._running)
        while self._waiting and len(self._running) < slots:
            need = len(self._waiting[0].tokens) + HEADROOM_TOKENS
            if (self._running or texts.running) and need > free_cells:
                break
            free_cells -= need
            self._begin(self._waiting.popleft(), events)
        most = min(max(1, self._slots - 1), self._slots - len(self._running))
        texts.admit(most, free_cells)
        self._cache.trim(self._model.kept_tokens // max(1, len(self._running)))

    def _begin(self, sequence: Sequence, events: list[FromChild]) -> None:
        """Put a request into the cache, next to what is known of it."""
        sequence.held = self._cache.take(sequence.tokens)
        self._running.append(sequence)
        if sequence.started is not None:
            return  # it stepped back for others, and goes on
        sequence.started = time.monotonic()
        sequence.cached = min(sequence.decoded, sequence.prompt_length)
        request = sequence.request
        events.append(Started(request.request_id, sequence.prompt_length, sequence.cached))
        self._resume(sequence, events)

    def _resume(self, sequence: Sequence, events: list[FromChild]) -> None:
        """Bring the text of an answer that moved here to where its tokens are."""
        request = sequence.request
        pieces = (
            map(self._vocabulary.piece, request.continue_token_ids)
            if request.continue_token_ids
            else [request.continue_text.encode()]
        )
        if owed := sequence.text.resume(pieces, request.continue_text):
            offset = len(request.continue_text)
            events.append(Produced(request.request_id, sequence.answer_length, [], offset, owed))
        # It may have moved between its last token and its end.
        sequence.end = sequence.end_so_far()

    def _retire(self, events: list[FromChild]) -> None:
        """Send the ends of sequences that ended, and free their slots."""
        for sequence in [s for s in (*self._waiting, *self._running) if s.end is not None]:
            if sequence.held is None:
                self._waiting.remove(sequence)
            else:
                self._running.remove(sequence)
                self._cache.release(sequence.held)
            events += sequence.finish()

    def _step_back(self) -> None:
        """Free the cells of a text, or of the youngest answer, which keeps its tokens and waits."""
        if self._embedder.step_back():
            return
        sequence = self._running.pop()
        assert sequence.held is not None
        self._cache.clear(sequence.held)
        self._cache.release(sequence.held)
        sequence.held = None
        self._waiting.appendleft(sequence)

    # --- computing -----------------------------------------------------------------------------

    def _fill_batch(self) -> list[Part]:
        """Fill the batch with tokens of answers or of prompts; return whose are in it."""
        self._batch.clear()
        running = [sequence for sequence in self._running if sequence.end is None]
        prefilling = [sequence for sequence in running if sequence.in_prefill]
        decoding = [sequence for sequence in running if not sequence.in_prefill]
        if decoding and not (prefilling and self._prompts_turn):
            return [self._put(sequence, 1) for sequence in decoding]
        parts = []
        room = min(self._batch.room, self._pace.prompt_tokens(len(decoding), len(prefilling)))
        for sequence in prefilling:
            count = min(room, self._next_stop(sequence) - sequence.decoded)
            if count <= 0:
                break
            parts.append(self._put(sequence, count))
            room -= count
        return parts

    def _next_stop(self, sequence: Sequence) -> int:
        """Return how many tokens of a sequence a step may reach: all, or up to a snapshot."""
        place = self._cache.snapshot_place(sequence.prompt_length)
        return place if sequence.decoded < place else len(sequence.tokens)

    def _put(self, sequence: Sequence, count: int) -> Part:
        """Add the next tokens of a sequence to the batch."""
        assert sequence.held is not None
        tokens = sequence.tokens[sequence.decoded : sequence.decoded + count]
        last = sequence.decoded + count == len(sequence.tokens)
        row = self._batch.add(sequence.held.id, sequence.decoded, tokens, wants_logits=last)
        return Part(sequence, tokens, row if last else None)

    def _compute(self, parts: list[Part], events: list[FromChild]) -> bool:
        """Compute the batch and draw a token for each row of logits.

        Returns false where the cells ran out and an answer stepped back: the batch must be made
        anew, without it.
        """
        started = time.monotonic()
        code = self._decoder.compute()
        if code == library.NO_ROOM and (len(self._running) > 1 or self._embedder.running):
            self._step_back()
            return False
        if code != 0:
            self._fail(parts, code)
            return True
        self._prompts_turn = not parts[0].sequence.in_prefill
        for part in parts:
            part.keep()
            self._cache.snapshot_if_due(part.sequence.held, part.sequence.prompt_length)
            if part.row is not None:
                try:
                    self._draw(part.sequence, part.row, events)
                except PotluckError as error:
                    part.sequence.end, part.sequence.failure = "failed", failure_of(error)
        together = min(1.0, len(self._batch) / library.COMPUTED_TOGETHER)
        self._fullness = max(
            self._fullness, together * self._cache.cells_used / self._decoder.cells
        )
        seconds = time.monotonic() - started
        if self._prompts_turn:
            self._pace.learn_decoding(seconds)
            self._decoder.threads.learn(len(parts), seconds)
        else:
            self._pace.learn_prefill(len(self._batch), seconds)
        return True

    def _embed(self, events: list[FromChild]) -> None:
        """Compute a batch of the texts to embed; beside answers, no more than they can bear."""
        room = library.BATCH_TOKENS if self._embeds_only else library.EMBEDDED_TOGETHER
        if decoding := sum(not sequence.in_prefill for sequence in self._running):
            room = min(room, self._pace.prompt_tokens(decoding, 1, least=EMBEDDED_LEAST_TOKENS))
        events += self._embedder.step(room, alone=not self._running)

    def _fail(self, parts: list[Part], code: int) -> None:
        """End the sequences of a batch that could not be computed."""
        reason = (
            "the KV cache is full" if code == library.NO_ROOM else f"llama_decode returned {code}"
        )
        error = PotluckError(f"llama.cpp could not compute a step: {reason}.")
        for sequence in (part.sequence for part in parts):
            assert sequence.held is not None
            sequence.end, sequence.failure = "failed", failure_of(error)
            self._cache.clear(sequence.held)

    def _draw(self, sequence: Sequence, row: int, events: list[FromChild]) -> None:
        """Draw the next token of a sequence, and see whether it ends there."""
        index = sequence.answer_length
        sampler = sequence.sampler
        try:
            token = sampler.sample(self._decoder.context, row, index)
        except Complete:
            sequence.end = "end_of_turn"
            return
        if sequence.first_token is None:
            sequence.first_token = time.monotonic()
        if self._vocabulary.ends(token):
            sequence.end = "end_of_turn"
            return
        sampler.accept(token)
        sequence.tokens.append(token)
        offset = sequence.text.length
        text = sequence.text.push(self._vocabulary.piece(token))
        request_id, logprobs = sequence.request.request_id, sampler.logprobs(token)
        events.append(Produced(request_id, index, [token], offset, text, logprobs))
        sequence.end = sequence.end_so_far()
