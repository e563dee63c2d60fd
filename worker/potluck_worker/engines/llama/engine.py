"""Continuous batching over llama.cpp: one `llama_decode` a step, for all sequences together.

A step takes the newest token of each sequence that decodes, fills the rest of the batch with prompt
tokens of sequences in prefill, computes it, and draws one token wherever logits came out. The
prompt's share is measured in time, so that a long prompt neither stalls the others nor delays a
cancellation for long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as api

from potluck_proto.errors import BadRequest, ContextOverflow, PotluckError
from potluck_worker.engines.base import (
    Embed,
    EndReason,
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
from potluck_worker.engines.llama import library
from potluck_worker.engines.llama.prompt import PromptMaker
from potluck_worker.engines.llama.sampling import Samplers
from potluck_worker.engines.llama.sequence import Sequence, Slot
from potluck_worker.engines.llama.template import ChatTemplate
from potluck_worker.engines.llama.vocabulary import Vocabulary, common_prefix
from potluck_worker.engines.text import AnswerText

BATCH_TOKENS = 512
"""The most tokens in one step; larger batches are hardly faster."""

SMALLEST_CHUNK_TOKENS = 16
"""Prompt tokens that a step takes however slow the machine is, so that prefill gets on."""

ALONE_STEP_SECONDS = 0.5
"""What a step of prefill may take when nobody waits for a next token."""

SHARED_STEP_SECONDS = 0.1
"""What it may take when others decode: they stutter by no more than this."""

NO_ROOM = 1
"""What `llama_decode` returns when the KV cache has no place for the batch."""


class LlamaEngine:
    """One GGUF model in memory.

    Args:
        progress: Called with 0 to 1 while the model loads.
    """

    def __init__(self, progress: Callable[[float], None] = lambda _: None) -> None:
        self._progress = progress
        self._waiting: deque[tuple[Generate, float]] = deque()
        self._running: list[Sequence] = []
        self._ended: list[FromChild] = []

    def load(self, load: Load) -> Loaded:
        """Load the model. Raises `ModelError` for a file that cannot be."""
        log = library.start()
        self._name = Path(load.path).stem
        self._model = library.Model(
            Path(load.path), log, gpu_layers=load.gpu_layers, progress=self._progress
        )
        self._metadata = self._model.metadata()
        self._model.require_text_generation(self._metadata)
        self._vocabulary = Vocabulary(self._model.vocabulary)
        self._template = ChatTemplate(
            self._metadata.get("tokenizer.chat_template", ""),
            self._vocabulary.bos_text,
            self._vocabulary.eos_text,
            tool_use=self._metadata.get("tokenizer.chat_template.tool_use", ""),
        )
        self._prompts = PromptMaker(self._template, self._vocabulary)
        self._samplers = Samplers(self._vocabulary, self._metadata, load.context_length)
        self._context_length = load.context_length
        self._context: Any = library.open_context(
            self._model,
            context_length=load.context_length,
            slots=load.slots,
            batch=BATCH_TOKENS,
            kv_type=load.kv_type,
            flash_attention=load.flash_attention,
            threads=load.threads,
        )
        self._memory: Any = api.llama_get_memory(self._context)
        self._batch: Any = api.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._slots = [Slot(number) for number in range(load.slots)]
        self._prefill_tokens_per_second = self._warm_up()
        return Loaded(
            weights_bytes=log.weights_bytes,
            kv_cache_bytes=log.kv_cache_bytes,
            compute_bytes=log.compute_bytes,
            context_length=load.context_length,
            slots=load.slots,
        )

    def _warm_up(self) -> float:
        """Compute a token twice; return tokens per second, a low guess at the speed of prefill.

        The first time waits for pages and caches, so that the first answer does not. Without the
        guess, the first step of a long prompt may take a slow machine so long that it looks dead.
        """
        for _ in range(2):
            started = time.monotonic()
            self._batch.n_tokens = 0
            self._put(0, 0, 0, wants_logits=True)
            api.llama_decode(self._context, self._batch)
            api.llama_synchronize(self._context)
            api.llama_memory_clear(self._memory, True)
        return 1 / max(time.monotonic() - started, 1e-6)

    def submit(self, request: Generate | Embed) -> None:
        """Queue a request."""
        if isinstance(request, Embed):
            error = BadRequest("Embeddings are not served yet.")
            self._ended.append(failed(request.request_id, error))
        else:
            self._waiting.append((request, time.monotonic()))

    def cancel(self, request_id: RequestId) -> None:
        """End a request, queued or under way."""
        for entry in self._waiting:
            if entry[0].request_id == request_id:
                self._waiting.remove(entry)
                self._ended.append(Finished(request_id, "stopped"))
                return
        for sequence in self._running:
            if sequence.request.request_id == request_id and sequence.end is None:
                sequence.end = "stopped"

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._waiting or self._running or self._ended)

    @property
    def slots_busy(self) -> int:
        """Sequences under way."""
        return len(self._running)

    @property
    def queue_length(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    def step(self) -> list[FromChild]:
        """Admit, compute one batch, draw; return what came of it."""
        events, self._ended = self._ended, []
        self._retire(events)
        self._admit(events)
        rows = self._fill_batch()
        if rows:
            self._compute(rows, events)
        self._retire(events)
        return events

    def close(self) -> None:
        """Free the model."""
        self._samplers.close()
        api.llama_batch_free(self._batch)
        api.llama_free(self._context)
        self._model.close()

    # --- admission -----------------------------------------------------------------------------

    def _admit(self, events: list[FromChild]) -> None:
        """Give free slots to waiting requests, first come, first served."""
        while self._waiting and any(not slot.busy for slot in self._slots):
            request, arrived = self._waiting.popleft()
            try:
                sequence = self._begin(request, time.monotonic() - arrived)
            except PotluckError as error:
                events.append(failed(request.request_id, error))
                continue
            self._running.append(sequence)
            events.append(Started(request.request_id, sequence.prompt_length, sequence.cached))
            self._resume(sequence, events)

    def _begin(self, request: Generate, queued_seconds: float) -> Sequence:
        """Put a request into the slot that knows most of it. Raises `PotluckError`."""
        asked = request.sampling
        if asked.max_tokens is not None and asked.max_tokens < 1:
            raise BadRequest(f"max_tokens cannot be {asked.max_tokens}; it is at least 1.")
        prompt = self._prompts.tokens(request.messages, request.tools, request.thinking)
        answer = self._answer_so_far(request)
        tokens = prompt + answer
        if not tokens:
            raise BadRequest("The prompt is empty.")
        if len(prompt) >= self._context_length:
            raise ContextOverflow(
                f"The prompt is {len(prompt):,} tokens long; the context of {self._name} is "
                f"{self._context_length:,} and must hold the answer too. Shorten it, start a new "
                "chat, or set a larger context_length for the worker.",
                prompt_tokens=len(prompt),
                context_length=self._context_length,
            )
        sampler = self._samplers.begin(asked, prompt, answer)
        slot, kept = self._take_slot(tokens)
        return Sequence(
            request=request,
            slot=slot.number,
            tokens=tokens,
            prompt_length=len(prompt),
            decoded=kept,
            cached=min(kept, len(prompt)),
            sampler=sampler,
            text=AnswerText((*asked.stop, *self._template.stop)),
            max_tokens=asked.max_tokens,
            queued_seconds=queued_seconds,
        )

    def _answer_so_far(self, request: Generate) -> list[int]:
        """Return the tokens of an answer that moved here. Raises `BadRequest` for a foreign one."""
        if not request.continue_token_ids:
            return self._vocabulary.tokenize(request.continue_text, special=False)
        for token in request.continue_token_ids:
            if not 0 <= token < self._vocabulary.size:
                raise BadRequest(
                    f"The answer to go on with has the token {token}; the vocabulary of "
                    f"{self._name} has {self._vocabulary.size:,}. Go on from its text."
                )
        return list(request.continue_token_ids)

    def _take_slot(self, tokens: list[int]) -> tuple[Slot, int]:
        """Take the free slot that knows most of `tokens`; return it and how many it keeps."""
        free = [slot for slot in self._slots if not slot.busy]
        slot = max(free, key=lambda slot: (common_prefix(slot.tokens, tokens), -slot.last_used))
        # The last token is always computed again: its logits are what the first draw needs.
        kept = min(common_prefix(slot.tokens, tokens), len(tokens) - 1)
        if not api.llama_memory_seq_rm(self._memory, slot.number, kept, -1):
            # A recurrent state cannot be cut back; it starts anew.
            api.llama_memory_seq_rm(self._memory, slot.number, -1, -1)
            kept = 0
        slot.busy = True
        return slot, kept

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
        sequence.end = self._end_of(sequence)

    def _retire(self, events: list[FromChild]) -> None:
        """Send the ends of sequences that ended, and free their slots."""
        for sequence in [s for s in self._running if s.end is not None]:
            self._running.remove(sequence)
            offset = sequence.text.length
            if rest := "" if sequence.text.stop_string else sequence.text.finish():
                events.append(
                    Produced(sequence.request.request_id, sequence.answer_length, [], offset, rest)
                )
            events.append(sequence.finished())
            sequence.sampler.close()
            slot = self._slots[sequence.slot]
            # What was drawn last is not in the cache: only what was decoded may be reused.
            slot.tokens = sequence.tokens[: sequence.decoded]
            slot.busy = False
            slot.last_used = time.monotonic()

    # --- computing -----------------------------------------------------------------------------

    def _fill_batch(self) -> list[tuple[Sequence, int]]:
        """Fill the batch; return each sequence in it with the row of its logits, -1 for none."""
        self._batch.n_tokens = 0
        rows = []
        running = [sequence for sequence in self._running if sequence.end is None]
        decoding = [sequence for sequence in running if not sequence.in_prefill]
        for sequence in decoding:
            row = self._put(sequence.tokens[-1], sequence.decoded, sequence.slot, wants_logits=True)
            rows.append((sequence, row))
            sequence.decoded += 1
        limit_seconds = SHARED_STEP_SECONDS if decoding else ALONE_STEP_SECONDS
        chunk = max(SMALLEST_CHUNK_TOKENS, int(self._prefill_tokens_per_second * limit_seconds))
        room = min(BATCH_TOKENS - len(decoding), chunk)
        for sequence in running:
            if room <= 0:
                break
            if not sequence.in_prefill:
                continue
            stop = min(sequence.decoded + room, len(sequence.tokens))
            row = -1
            for position in range(sequence.decoded, stop):
                last = position == len(sequence.tokens) - 1
                token = sequence.tokens[position]
                row = self._put(token, position, sequence.slot, wants_logits=last)
            rows.append((sequence, row if stop == len(sequence.tokens) else -1))
            room -= stop - sequence.decoded
            sequence.decoded = stop
        return rows

    def _put(self, token: int, position: int, slot: int, *, wants_logits: bool) -> int:
        """Add one token to the batch; return its row."""
        batch, row = self._batch, self._batch.n_tokens
        batch.token[row] = token
        batch.pos[row] = position
        batch.n_seq_id[row] = 1
        batch.seq_id[row][0] = slot
        batch.logits[row] = wants_logits
        batch.n_tokens = row + 1
        return int(row)

    def _compute(self, rows: list[tuple[Sequence, int]], events: list[FromChild]) -> None:
        """Decode the batch and draw a token for each row of logits."""
        started = time.monotonic()
        code = api.llama_decode(self._context, self._batch)
        if code != 0:
            reason = "the KV cache is full" if code == NO_ROOM else f"llama_decode returned {code}"
            for sequence, _ in rows:
                error = PotluckError(f"llama.cpp could not compute a step: {reason}.")
                sequence.end, sequence.failure = "failed", failure_of(error)
                sequence.decoded = 0
                api.llama_memory_seq_rm(self._memory, sequence.slot, -1, -1)
            return
        prefilled = self._batch.n_tokens - len(rows)
        if prefilled >= SMALLEST_CHUNK_TOKENS:
            speed = self._batch.n_tokens / (time.monotonic() - started)
            self._prefill_tokens_per_second += 0.5 * (speed - self._prefill_tokens_per_second)
        for sequence, row in rows:
            if row >= 0:
                try:
                    self._draw(sequence, row, events)
                except PotluckError as error:
                    sequence.end, sequence.failure = "failed", failure_of(error)

    def _draw(self, sequence: Sequence, row: int, events: list[FromChild]) -> None:
        """Draw the next token of a sequence, and see whether it ends there."""
        index = sequence.answer_length
        sampler = sequence.sampler
        token = sampler.sample(self._context, row, index)
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
        sequence.end = self._end_of(sequence)

    def _end_of(self, sequence: Sequence) -> EndReason | None:
        """Say why an answer ends with the tokens that it has, if it does."""
        if sequence.text.stop_string:
            return "stop_string"
        if sequence.max_tokens is not None and sequence.answer_length >= sequence.max_tokens:
            return "max_tokens"
        if len(sequence.tokens) >= self._context_length:
            return "context_full"
        return None
