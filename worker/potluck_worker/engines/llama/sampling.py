"""Drawing tokens, in C, with a seed for each position.

The order is llama.cpp's: logit bias, penalties, DRY, top-k, typical, top-p, min-p, XTC,
temperature, then the draw. At temperature 0 the likeliest token after the first three is taken.
With mirostat, which chooses how many tokens are left, the five in the middle rest.

The draw at position `i` of an answer depends on the logits, on the tokens before it, and on
(seed, i). Whatever has a memory (penalties, DRY, grammar) is rebuilt from those tokens, so that an
answer that moves goes on as it would have gone. Mirostat's target is the exception: it follows from
logits that are gone, and starts anew.

Penalties and DRY count the prompt's tokens too, as llama.cpp's server does: what a user has said
already is a repetition.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as api

from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import Dry, Sampling, TokenLogprobs
from potluck_worker.engines.llama.candidates import (
    Candidates,
    Logits,
    TokenIds,
    likeliest,
    logits_of,
)
from potluck_worker.engines.llama.grammar import Grammar
from potluck_worker.engines.llama.logprobs import token_logprobs
from potluck_worker.engines.llama.settings import Settings
from potluck_worker.engines.llama.vocabulary import Vocabulary

DRAW, COIN_OF_XTC, DRAW_BY_GRAMMAR = range(3)
"""What a position's random numbers are for: each use has its own."""

SMALLEST_LOG_PROBABILITY = -80.0
"""Below it a probability may be 0 in float32, of which typical sampling makes a NaN."""

_MASK = 2**64 - 1


class Samplers:
    """Makes the samplers of one model's answers.

    Args:
        vocabulary: The model's vocabulary.
        metadata: The model file's, for what it recommends.
        context_length: Tokens of an answer's context.
    """

    def __init__(
        self, vocabulary: Vocabulary, metadata: Mapping[str, str], context_length: int
    ) -> None:
        self._vocabulary = vocabulary
        self._metadata = metadata
        self._context_length = context_length
        self._candidates = Candidates(vocabulary.size)
        self._dry: dict[Dry, Any] = {}

    def begin(self, asked: Sampling, prompt: Sequence[int], answer: Sequence[int]) -> Sampler:
        """Return a sampler that goes on after the tokens of `prompt` and `answer`.

        Raises:
            BadRequest: An option is impossible, or the grammar does not work or does not allow
                `answer`.
        """
        settings = Settings.decide(
            asked,
            self._metadata,
            context_length=self._context_length,
            vocabulary_size=self._vocabulary.size,
        )
        grammar = Grammar.of(asked, self._vocabulary, self._candidates)
        dry = None if settings.dry is None else self._dry_sampler(settings.dry)
        sampler = Sampler(settings, self._candidates, dry, grammar)
        try:
            sampler.replay(prompt, answer)
        except BadRequest:
            sampler.close()
            raise
        return sampler

    def _dry_sampler(self, dry: Dry) -> Any:
        """Return a sampler of DRY; making one walks the whole vocabulary, copying it does not."""
        made = self._dry.get(dry)
        if made is None:
            while len(self._dry) >= 4:
                api.llama_sampler_free(self._dry.pop(next(iter(self._dry))))
            breakers = [breaker.encode() for breaker in dry.sequence_breakers]
            made = self._dry[dry] = api.llama_sampler_init_dry(
                self._vocabulary.pointer,
                dry.multiplier,
                dry.base,
                dry.allowed_length,
                dry.penalty_window,
                (ctypes.c_char_p * len(breakers))(*breakers),
                len(breakers),
            )
        return api.llama_sampler_clone(made)

    def close(self) -> None:
        """Free what is kept for copying."""
        for sampler in self._dry.values():
            api.llama_sampler_free(sampler)
        self._dry.clear()


class Sampler:
    """Draws the tokens of one answer. Made by `Samplers`.

    Args:
        settings: Every option, decided.
        candidates: The engine's array.
        dry: llama.cpp's sampler of DRY, which this one frees.
        grammar: What the answer must match.
    """

    def __init__(
        self, settings: Settings, candidates: Candidates, dry: Any, grammar: Grammar | None
    ) -> None:
        self._settings = settings
        self._candidates = candidates
        self._grammar = grammar
        self._size = len(candidates.all_ids)
        self._bias_ids = np.fromiter(settings.logit_bias.keys(), np.int64)
        self._biases = np.fromiter(settings.logit_bias.values(), np.float32)
        self._window = 0
        self._remembering: list[Any] = []
        if settings.penalizes:
            self._window = settings.penalty_window
            self._remembering.append(
                api.llama_sampler_init_penalties(
                    self._size,
                    settings.penalty_window,
                    settings.repetition_penalty,
                    settings.frequency_penalty,
                    settings.presence_penalty,
                )
            )
        if dry is not None:
            self._window = max(self._window, settings.dry.penalty_window if settings.dry else 0)
            self._remembering.append(dry)
        self._seen: dict[int, None] = {}
        self._seen_ids: TokenIds = np.empty(0, np.int32)
        self._cuts_tail = not settings.top_k and settings.typical_p == 1 and settings.top_p < 1
        self._narrowing = self._narrowing_samplers()
        # It always drops the top; whether it is applied is decided by a coin of our own.
        xtc = settings.xtc
        self._xtc = xtc and api.llama_sampler_init_xtc(1.0, xtc.threshold, 1, 0)
        self._surprise_limit = 2 * settings.mirostat.tau if settings.mirostat else 0.0
        self._surprise = 0.0
        self._model_logits: Logits = candidates.changed
        changes_logits = bool(len(self._bias_ids) or self._remembering)
        self._plain = settings.temperature == 0 and not changes_logits and grammar is None

    def _narrowing_samplers(self) -> list[Any]:
        """Return the samplers that drop unlikely tokens."""
        settings = self._settings
        samplers = [api.llama_sampler_init_top_k(settings.top_k)] if settings.top_k else []
        if settings.typical_p < 1:
            samplers.append(api.llama_sampler_init_typical(settings.typical_p, 1))
        if settings.top_p < 1 and not self._cuts_tail:
            samplers.append(api.llama_sampler_init_top_p(settings.top_p, 1))
        if settings.min_p > 0:
            samplers.append(api.llama_sampler_init_min_p(settings.min_p, 1))
        return samplers

    def replay(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Take in the tokens before the first draw. Raises `BadRequest` as `accept` does."""
        if self._grammar is not None:
            for token in answer:
                self._grammar.check(token)
                self._grammar.accept(token)
        if self._window:
            for token in (*prompt, *answer)[-self._window :]:
                self._remember(token)

    def sample(self, context: Any, row: int, index: int) -> int:
        """Return the token at position `index` of the answer, from logits `row` of the batch.

        Raises:
            BadRequest: The options leave no token to draw.
            Complete: The grammar is, and the model has no token to say so.
        """
        self._model_logits = logits = logits_of(context, row, self._size)
        if self._plain:
            return int(logits.argmax())
        logits = self._changed(logits)
        grammar = self._grammar
        if grammar is None:
            return self._draw(self._candidates.all_ids, logits, index, DRAW)
        token = self._draw(self._candidates.all_ids, logits, index, DRAW)
        if grammar.allows(token):
            return token
        # Rarely: what was drawn does not fit. Checking the whole vocabulary is slow.
        settings = self._settings
        needed = 1 if settings.temperature == 0 else settings.top_k
        if settings.mirostat and settings.temperature:
            needed = 0
        return self._draw(*grammar.allowed(logits, needed), index, DRAW_BY_GRAMMAR)

    def logprobs(self, token: int) -> tuple[TokenLogprobs, ...]:
        """Return what the model thought of the token that was sampled last, if asked for."""
        asked = self._settings.logprobs
        return () if asked is None else (token_logprobs(self._model_logits, token, asked),)

    def accept(self, token: int) -> None:
        """Take in a token that became part of the answer.

        Raises:
            BadRequest: The grammar takes too long.
        """
        mirostat = self._settings.mirostat
        if mirostat is not None:
            self._surprise_limit -= mirostat.eta * (self._surprise - mirostat.tau)
        if self._grammar is not None:
            self._grammar.accept(token)
        if self._window:
            self._remember(token)

    def _remember(self, token: int) -> None:
        for sampler in self._remembering:
            api.llama_sampler_accept(sampler, token)
        if token not in self._seen:
            if len(self._seen) == len(self._seen_ids):
                self._seen_ids = np.resize(self._seen_ids, 2 * len(self._seen) + 64)
            self._seen_ids[len(self._seen)] = token
            self._seen[token] = None

    def _changed(self, logits: Logits) -> Logits:
        """Return the logits after bias, penalties and DRY.

        These look each candidate up in what came before, which for a whole vocabulary would take
        longer than all else; so they are given only the tokens that came before.
        """
        if not (len(self._bias_ids) or self._seen or self._grammar):
            return logits
        np.copyto(self._candidates.changed, logits)
        logits = self._candidates.changed
        if self._grammar is not None:
            logits[self._grammar.silent_ids] = -math.inf
        logits[self._bias_ids] += self._biases
        if self._seen:
            seen = self._seen_ids[: len(self._seen)]
            candidates = self._candidates
            candidates.fill(seen, logits[seen])
            for sampler in self._remembering:
                candidates.apply(sampler)
            logits[candidates.ids] = candidates.logits
        return logits

    def _draw(self, ids: TokenIds, logits: Logits, index: int, purpose: int) -> int:
        """Draw one of `ids` by their logits."""
        settings = self._settings
        if settings.temperature == 0:
            best = int(logits.argmax())
            if not logits[best] > -math.inf:
                raise _nothing_left()
            return int(ids[best])
        candidates = self._candidates
        if settings.mirostat:
            candidates.fill(*self._unsurprising(ids, logits / np.float32(settings.temperature)))
        else:
            if 0 < settings.top_k < len(logits):
                kept = likeliest(logits, settings.top_k)
                ids, logits = ids[kept], logits[kept]
            ids, logits = self._possible(ids, logits)
            if self._cuts_tail:
                self._apply_top_p(ids, logits)
            else:
                candidates.fill(ids, logits)
            for sampler in self._narrowing:
                candidates.apply(sampler)
            if settings.xtc and _uniform(settings.seed, index, COIN_OF_XTC) < (
                settings.xtc.probability
            ):
                candidates.apply(self._xtc)
            candidates.logits[:] /= np.float32(settings.temperature)
        # Made anew, since resetting one brings its first seed back; it takes 3 microseconds.
        draw = api.llama_sampler_init_dist(random_bits(settings.seed, index, purpose))
        candidates.apply(draw)
        api.llama_sampler_free(draw)
        token, probability = candidates.selected
        self._surprise = -math.log2(max(probability, 1e-30))
        return token

    def _apply_top_p(self, ids: TokenIds, logits: Logits) -> None:
        """Fill the array with the smallest set whose probabilities sum to `top_p`, or near it.

        llama.cpp would sort the whole vocabulary for it, which takes milliseconds. What is so
        unlikely that all its like together miss the sum by definition is left out first, and the
        sum that is asked of the rest grows by as much as the rest lost.
        """
        settings = self._settings
        weights = np.exp(logits - logits.max())
        total = float(weights.sum())
        tail = max(settings.min_p, (1 - settings.top_p) * total / len(weights))
        likely = weights >= np.float32(min(tail, 1.0))
        self._candidates.fill(ids[likely], logits[likely])
        share = float(weights[likely].sum()) / total
        sampler = api.llama_sampler_init_top_p(min(1.0, settings.top_p / share), 1)
        self._candidates.apply(sampler)
        api.llama_sampler_free(sampler)

    def _possible(self, ids: TokenIds, logits: Logits) -> tuple[TokenIds, Logits]:
        """Leave out what has no chance."""
        lowest = -math.inf
        if self._settings.typical_p < 1:
            lowest = float(logits.max()) + SMALLEST_LOG_PROBABILITY
        possible = logits > lowest
        if possible.all():
            return ids, logits
        ids, logits = ids[possible], logits[possible]
        if not len(ids):
            raise _nothing_left()
        return ids, logits

    def _unsurprising(self, ids: TokenIds, logits: Logits) -> tuple[TokenIds, Logits]:
        """Return the tokens that surprise no more than mirostat's limit, or the likeliest."""
        ids, logits = self._possible(ids, logits)
        weights = np.exp(logits - logits.max())
        kept = weights >= weights.sum() * 2.0**-self._surprise_limit
        if not kept.any():
            kept[logits.argmax()] = True
        return ids[kept], logits[kept]

    def close(self) -> None:
        """Free what the library holds."""
        for sampler in (*self._remembering, *self._narrowing):
            api.llama_sampler_free(sampler)
        if self._xtc is not None:
            api.llama_sampler_free(self._xtc)
        if self._grammar is not None:
            self._grammar.close()


def _nothing_left() -> BadRequest:
    return BadRequest(
        "The sampling options leave no token to draw. Loosen logit_bias or the grammar."
    )


def random_bits(seed: int, index: int, purpose: int = DRAW) -> int:
    """Return 32 bits that look unrelated for neighbouring indices (splitmix64's finalizer).

    The library takes 2**32 - 1 to mean "any seed", so that value is never returned.
    """
    value = (seed + (index + 1) * 0x9E3779B97F4A7C15 + purpose * 0xD1B54A32D192ED03) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) % (2**32 - 1)


def _uniform(seed: int, index: int, purpose: int) -> float:
    """Return a number from 0 up to 1, without 1."""
    return random_bits(seed, index, purpose) / (2**32 - 1)
