"""A fake engine: deterministic, programmable, and public, since users of the library test with it.

Its model is a small TOML file, `NAME.fake.toml`, in the models folder; see `FakeModel` for what may
stand in it. A token is a word with the space after it. An embedding adds up a direction for each
word, so texts that share words are near each other.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import struct
import time
import tomllib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import msgspec

from potluck_proto.errors import ContextOverflow, ModelFileError, PotluckError
from potluck_proto.plain import plain
from potluck_worker.engines import faults
from potluck_worker.engines.base import (
    Embed,
    Embedded,
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
)
from potluck_worker.engines.embedding_inputs import tokens_to_embed
from potluck_worker.engines.faults import Crash, Stall
from potluck_worker.engines.inspection import Inspection, LicenceWords, Lineage
from potluck_worker.engines.sizing import HOST, Estimate, Options, Share
from potluck_worker.engines.text import AnswerText
from potluck_worker.footprint import private_bytes

STEP_SECONDS = 0.02
"""A step waits no longer than this, so that commands are heard."""

FAKE_SUFFIX = ".fake.toml"

EMBEDDING_LENGTH = 16
"""Numbers of an embedding."""


@dataclass(frozen=True, slots=True)
class FakeModel:
    """What a fake model file may say."""

    text: str = ""
    """The answer; empty says back the last message."""
    tokens_per_second: float = 0.0
    """For each sequence; 0 is as fast as it goes."""
    step_seconds: float = 0.0
    """What a step takes, as on a slow machine."""
    load_seconds: float = 0.0
    quantization: str = ""
    bits_per_weight: float = 0.0
    memory_bytes: int = 2**20
    """What it says that it takes, beside its process."""
    token_bytes: int = 0
    """What it says that each token of its cache takes."""
    takes_memory: bool = False
    """Whether it really takes `memory_bytes`."""
    context_length: int = 4096
    """The longest that it may be loaded with."""
    slots: int = 0
    """Answers at once, at most; 0 is as many as it is loaded with."""
    crash_on_load: bool = False
    crash_after_tokens: int = -1
    """Crash in the step after so many tokens of an answer; -1 never."""
    crash_with: Crash = "abort"
    stall_on_load: bool = False
    stall_after_tokens: int = -1
    """Hang in the step after so many tokens of an answer; -1 never."""
    stall_with: Stall = "sleep"
    litter: bool = False
    """Start a process that would outlive the engine, and leave a temporary file, at each load."""

    @classmethod
    def read(cls, path: Path) -> FakeModel:
        """Return what a file says. Raises `ModelFileError`."""
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ModelFileError(f"{path.name} cannot be read: {plain(error)}.") from error
        if unknown := values.keys() - {field.name for field in fields(cls)}:
            raise ModelFileError(f"{path.name} has an unknown option: {sorted(unknown)[0]}.")
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ModelFileError(f"{path.name}: {error}.") from error

    def inspect(self, path: Path) -> Inspection:
        """Return what its file says of it."""
        return Inspection(
            architecture="fake",
            parameter_count=0,
            active_parameter_count=0,
            quantization=self.quantization,
            bits_per_weight=self.bits_per_weight,
            bytes_by_type={},
            training_context_length=self.context_length,
            vocabulary_size=2**24,
            has_chat_template=True,
            template_supports=("system",),
            embeds_only=False,
            modalities=("text",),
            title=path.name.removesuffix(FAKE_SUFFIX),
            lineage=Lineage(tuning="tuned", tuning_source="it is a fake"),
            licence=LicenceWords("mit"),
            tokenizer_sha256="fake",
            template_sha256="fake",
            weights_sha256="fake",
        )

    def slots_of(self, asked: int) -> int:
        """Return the answers at once of a model that is loaded with `asked` slots."""
        return min(asked, self.slots) if self.slots else asked


@dataclass(slots=True)
class _Sequence:
    """An answer under way."""

    request: Generate
    words: list[str]
    prompt_tokens: int
    next_index: int
    first_index: int
    started: float
    text: AnswerText


class FakeSizer:
    """Says what a fake model says that it takes.

    Args:
        model: The model.
    """

    def __init__(self, model: FakeModel) -> None:
        self._model = model
        self._process_bytes = private_bytes(os.getpid())
        self.training_context_length = model.context_length

    def ask(self, options: Options) -> Estimate:
        """Return what it takes, held like this."""
        assert options.context_length and options.slots
        slots = self._model.slots_of(options.slots)
        share = Share(
            HOST,
            weights_bytes=self._model.memory_bytes,
            kv_cache_bytes=self._model.token_bytes * options.context_length * slots,
            process_bytes=self._process_bytes,
        )
        return Estimate(
            replace(options, slots=slots, gpu_layers=0, host_experts=0, flash_attention=False),
            (share,),
        )


class FakeEngine:
    """An engine that says what its file says.

    Args:
        progress: Called with 0 to 1 while it pretends to load.
    """

    def __init__(self, progress: Callable[[float], None] = lambda _: None) -> None:
        self._progress = progress
        self._waiting: deque[Generate] = deque()
        self._running: list[_Sequence] = []
        self._ended: list[FromChild] = []
        self._taken: list[bytes] = []

    def load(self, load: Load) -> Loaded:
        """Pretend to load."""
        path = Path(load.path)
        self._model, self._name = FakeModel.read(path), path.name.removesuffix(FAKE_SUFFIX)
        self._slots = self._model.slots_of(load.slots)
        self._context_length = load.context_length
        started = time.monotonic()
        while (passed := time.monotonic() - started) < self._model.load_seconds:
            self._take(passed / self._model.load_seconds)
            self._progress(passed / self._model.load_seconds)
            time.sleep(STEP_SECONDS)
        if self._model.litter:
            faults.litter()
        if self._model.stall_on_load:
            faults.stall(self._model.stall_with)
        if self._model.crash_on_load:
            faults.crash(self._model.crash_with, load.path)
        self._take(1.0)
        return Loaded(
            self._model.memory_bytes,
            0,
            0,
            load.context_length,
            self._slots,
            longest_step_seconds=self._model.step_seconds,
        )

    def _take(self, fraction: float) -> None:
        """Take a part of the memory of a model that takes some."""
        if self._model.takes_memory:
            size_bytes = int(fraction * self._model.memory_bytes) - sum(map(len, self._taken))
            self._taken.append(b"x" * size_bytes)

    def submit(self, request: Generate | Embed) -> None:
        """Queue a request."""
        if isinstance(request, Embed):
            self._ended.append(self._embed(request))
        else:
            self._waiting.append(request)

    def _embed(self, request: Embed) -> FromChild:
        try:
            texts = tokens_to_embed(request.inputs, _token_ids, self._name, self._context_length)
        except PotluckError as error:
            return failed(request.request_id, error)
        vectors = list(map(embedding, request.inputs))
        return Embedded(request.request_id, vectors, sum(map(len, texts)))

    def cancel(self, request_id: RequestId) -> None:
        """End a request."""
        for request in list(self._waiting):
            if request.request_id == request_id:
                self._waiting.remove(request)
                self._ended.append(Finished(request_id, "stopped"))
        for sequence in list(self._running):
            if sequence.request.request_id == request_id:
                self._end(sequence, "stopped", self._ended)

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

    @property
    def fullness(self) -> float:
        """One that takes memory takes all when it loads; another never takes what it says."""
        return 1.0 if self._model.takes_memory else 0.0

    def step(self) -> list[FromChild]:
        """Say the words whose time has come."""
        time.sleep(self._model.step_seconds)
        events, self._ended = self._ended, []
        while self._waiting and len(self._running) < self._slots:
            self._begin(self._waiting.popleft(), events)
        for sequence in list(self._running):
            self._speak(sequence, events)
        if not events and self._running:
            time.sleep(self._next_word_seconds())
        return events

    def close(self) -> None:
        """Nothing to free."""

    def _begin(self, request: Generate, events: list[FromChild]) -> None:
        prompt = request.messages[-1].content if request.messages else ""
        prompt_tokens = len(prompt.split())
        if prompt_tokens >= self._context_length:
            error = ContextOverflow(
                f"The prompt is {prompt_tokens:,} tokens long; the context is "
                f"{self._context_length:,}. Shorten it."
            )
            events.append(failed(request.request_id, error))
            return
        words = split_words(self._model.text or f"You said: {prompt}")
        done = len(request.continue_token_ids) or len(split_words(request.continue_text))
        text = AnswerText(request.sampling.stop)
        events.append(Started(request.request_id, prompt_tokens, 0))
        said = map(str.encode, words[:done])
        if owed := text.resume(said, request.continue_text):
            offset = len(request.continue_text)
            events.append(Produced(request.request_id, done, [], offset, owed))
        self._running.append(
            _Sequence(request, words, prompt_tokens, done, done, time.monotonic(), text)
        )

    def _due(self, sequence: _Sequence) -> float:
        """Return when the next word of a sequence is due."""
        if not self._model.tokens_per_second:
            return sequence.started
        said = sequence.next_index - sequence.first_index + 1
        return sequence.started + said / self._model.tokens_per_second

    def _next_word_seconds(self) -> float:
        due = min(self._due(sequence) for sequence in self._running)
        return min(STEP_SECONDS, max(0.0, due - time.monotonic()))

    def _speak(self, sequence: _Sequence, events: list[FromChild]) -> None:
        """Say one word if it is due, and end the answer after the last."""
        request, index = sequence.request, sequence.next_index
        if index == self._model.crash_after_tokens:
            faults.crash(self._model.crash_with, request.messages[-1].content)
        if index == self._model.stall_after_tokens:
            faults.stall(self._model.stall_with)
        if reason := self._end_of(sequence):
            self._end(sequence, reason, events)
            return
        if time.monotonic() < self._due(sequence):
            return
        word = sequence.words[index]
        offset = sequence.text.length
        text = sequence.text.push(word.encode())
        events.append(Produced(request.request_id, index, [token_id(word)], offset, text))
        sequence.next_index += 1
        if reason := self._end_of(sequence):
            self._end(sequence, reason, events)

    def _end_of(self, sequence: _Sequence) -> EndReason | None:
        """Say why an answer ends with the words that it has, if it does."""
        limit = sequence.request.sampling.max_tokens
        if sequence.text.stop_string:
            return "stop_string"
        if limit is not None and sequence.next_index >= limit:
            return "max_tokens"
        if sequence.next_index >= len(sequence.words):
            return "end_of_turn"
        if sequence.prompt_tokens + sequence.next_index >= self._context_length:
            return "context_full"
        return None

    def _end(self, sequence: _Sequence, reason: EndReason, events: list[FromChild]) -> None:
        self._running.remove(sequence)
        request_id, offset = sequence.request.request_id, sequence.text.length
        if rest := "" if sequence.text.stop_string else sequence.text.finish():
            events.append(Produced(request_id, sequence.next_index, [], offset, rest))
        events.append(
            Finished(
                request_id,
                reason,
                sequence.text.stop_string,
                prompt_tokens=sequence.prompt_tokens,
                completion_tokens=sequence.next_index,
                decode_seconds=time.monotonic() - sequence.started,
            )
        )


def embedding(text: str) -> bytes:
    """Return the embedding of a text, as `Embedded` has it."""
    digests = [hashlib.sha256(word.lower().encode()).digest() for word in text.split()]
    sums = [sum(digest[at] - 127.5 for digest in digests) for at in range(EMBEDDING_LENGTH)]
    length = math.hypot(*sums)
    return struct.pack(f"<{EMBEDDING_LENGTH}f", *(value / length for value in sums))


def split_words(text: str) -> list[str]:
    """Return the tokens of a text; joined, they are the text."""
    return re.findall(r"\s*\S+\s?|\s+$", text)


def token_id(word: str) -> int:
    """Return the id of a token: the same word has the same id everywhere."""
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:3])


def _token_ids(text: str) -> list[int]:
    return [token_id(word) for word in text.split()]
