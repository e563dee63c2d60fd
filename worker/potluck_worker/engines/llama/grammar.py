"""Grammars: which tokens may come next in an answer that must match one.

llama.cpp aborts the process when it is asked about a token that a grammar does not allow, and on
some grammars as such; so grammars are checked by `gbnf.check` first, and every token before it is
accepted.
"""

from __future__ import annotations

import codecs
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from llama_cpp import llama_cpp as api
from llama_cpp.llama_grammar import json_schema_to_gbnf

from potluck_proto.errors import BadRequest
from potluck_worker.engines.base import Sampling
from potluck_worker.engines.limits import OutOfTime, limited
from potluck_worker.engines.llama import gbnf
from potluck_worker.engines.llama.candidates import Candidates, Logits, TokenIds, likeliest
from potluck_worker.engines.llama.vocabulary import Vocabulary
from potluck_worker.engines.ranges import check_constraint

FIRST_TRIED = 1024
"""Likeliest tokens that are checked before the whole vocabulary, which takes many times longer."""

SCHEMA_SECONDS = 2.0
"""What turning a JSON schema into a grammar may take."""

ACCEPT_SECONDS = 0.2
"""What taking in one token may take. It takes microseconds, but an ambiguous grammar can double it
with each character, and all other answers wait."""

NOT_IN_JSON_STRINGS = r'"\\\x00-\x1F'
"""What a JSON string cannot hold as it is. The library's grammars of strings forget the control
characters, and those of patterns such as `.` and `[^a]` all of it."""

FILTER_SECONDS = 2.0
"""What checking the whole vocabulary may take; it takes some 20 ms for 152k tokens."""


class Complete(Exception):
    """Nothing may follow what was said. Where tokens could end a turn, one of them would."""


class Grammar:
    """A grammar, and where an answer is in it. Holds memory of the library's until `close`.

    Args:
        text: The grammar in GBNF.
        vocabulary: The model's vocabulary.
        candidates: The engine's array.

    Attributes:
        silent_ids: Tokens that the grammar must not allow though their names may match it, since
            they add nothing to the text: control tokens that do not end the turn.

    Raises:
        BadRequest: It is no grammar, or one that the library cannot follow.
    """

    def __init__(self, text: str, vocabulary: Vocabulary, candidates: Candidates) -> None:
        names_tokens = gbnf.check(text)
        self._candidates = candidates
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self.silent_ids = np.empty(0, np.int64) if names_tokens else vocabulary.silent_ids
        self._sampler: Any = api.llama_sampler_init_grammar(
            vocabulary.pointer, text.encode(), b"root"
        )
        if not self._sampler:
            raise BadRequest(
                "llama.cpp cannot parse the grammar. It must be GBNF, each rule on a line of its "
                'own, such as: root ::= "yes" | "no"'
            )

    @classmethod
    def of(cls, asked: Sampling, vocabulary: Vocabulary, candidates: Candidates) -> Self | None:
        """Return the grammar of a request, if it has one. Raises `BadRequest`."""
        check_constraint(asked)
        if asked.json_schema:
            return cls(grammar_of_schema(asked.json_schema), vocabulary, candidates)
        return cls(asked.grammar, vocabulary, candidates) if asked.grammar else None

    def allows(self, token: int) -> bool:
        """Say whether a token may come next."""
        self._candidates.fill(np.array([token], np.int32), np.zeros(1, np.float32))
        self._candidates.apply(self._sampler)
        return bool(self._candidates.logits[0] > -math.inf) and self._goes_on_with(token)

    def _goes_on_with(self, token: int) -> bool:
        """Say whether the answer's bytes and those of a token are a text, or may become one."""
        state = self._decoder.getstate()
        try:
            self._decoder.decode(self._vocabulary.piece(token))
        except UnicodeDecodeError:
            return False
        finally:
            self._decoder.setstate(state)
        return True

    def allowed(self, logits: Logits, needed: int) -> tuple[TokenIds, Logits]:
        """Return the tokens that may come next, with their logits.

        Args:
            logits: For the whole vocabulary.
            needed: How many of the likeliest are enough; 0 asks for all.

        Raises:
            BadRequest: There is none.
            Complete: There is none, and the model has no token that would say so.
        """
        if 0 < needed <= FIRST_TRIED < len(logits):
            tried = likeliest(logits, FIRST_TRIED).astype(np.int32)
            found = self._filter(tried, logits[tried])
            if len(found[0]) >= needed:
                return found
        found = self._filter(self._candidates.all_ids, logits)
        if not len(found[0]):
            if self._vocabulary.never_ends:
                raise Complete
            raise BadRequest(
                "The grammar leads nowhere: none of the model's tokens may come next in this "
                "answer."
            )
        return found

    def _filter(self, ids: TokenIds, logits: Logits) -> tuple[TokenIds, Logits]:
        candidates = self._candidates
        candidates.fill(ids, logits)
        with _hurried(FILTER_SECONDS):
            candidates.apply(self._sampler)
        kept = candidates.logits > -math.inf
        for at in np.flatnonzero(kept & self._vocabulary.split_characters[candidates.ids]):
            kept[at] = self._goes_on_with(int(candidates.ids[at]))
        return candidates.ids[kept], candidates.logits[kept]

    def check(self, token: int) -> None:
        """Raise `BadRequest` where an answer that moved does not match."""
        if not self.allows(token):
            raise BadRequest("The answer to go on with does not match the grammar.")

    def accept(self, token: int) -> None:
        """Take in a token that is allowed.

        Raises:
            BadRequest: It took too long.
        """
        with _hurried(ACCEPT_SECONDS):
            api.llama_sampler_accept(self._sampler, token)
        self._decoder.decode(self._vocabulary.piece(token))

    def close(self) -> None:
        """Free it."""
        api.llama_sampler_free(self._sampler)


@contextmanager
def _hurried(seconds: float) -> Iterator[None]:
    """Raise `BadRequest` after a call of the library that took too long."""
    started = time.monotonic()
    yield
    if time.monotonic() - started > seconds:
        raise BadRequest(
            "The grammar is too ambiguous: the ways to read the answer have become too many. "
            "Write it so that each text can be read in one way."
        )


def grammar_of_schema(schema: str) -> str:
    """Return the grammar of what a JSON schema describes. Raises `BadRequest`."""
    try:
        with limited(SCHEMA_SECONDS):
            grammar = json_schema_to_gbnf(json.dumps(_reachable(json.loads(schema))))
            return gbnf.excluding(NOT_IN_JSON_STRINGS, str(grammar))
    except Exception as error:
        # The library raises what it likes on what it does not know, and recurses without end.
        known = isinstance(error, ValueError | AssertionError | OutOfTime)
        reason = str(error) if known else f"{type(error).__name__} {error}".strip()
        raise BadRequest(f"The JSON schema cannot be turned into a grammar: {reason}.") from error


def _reachable(schema: Any) -> Any:
    """Return a schema in which the library finds what a reference at the top refers to.

    It does not look beside a reference for others, and a recursive type is written just so:
    definitions, and at the top a reference to one.
    """
    if not isinstance(schema, dict):
        raise ValueError("a schema is a JSON object")  # noqa: TRY004 - it is the caller's value
    if "$ref" not in schema or len(schema) == 1:
        return schema
    return {name: value for name, value in schema.items() if name != "$ref"} | {
        "anyOf": [{"$ref": schema["$ref"]}]
    }
