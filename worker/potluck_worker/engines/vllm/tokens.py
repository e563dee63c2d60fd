"""Tokens of one model, by Hugging Face's tokenizers: text to ids, ids to text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

REPLACEMENT = "\ufffd"
"""What a tokenizer writes for bytes that are no character, or not yet one."""

LONGEST_CHARACTER_TOKENS = 4
"""A character has at most so many bytes, and a token at least one."""

CONTEXT_TOKENS = 6
"""Tokens before a text that decide how it begins: some tokenizers drop a space at the start."""


class Vocabulary:
    """A model's vocabulary.

    Args:
        tokenizer: As vLLM loaded it.
        size: Tokens that the model has.
        adds_start: Whether a prompt gets the mark of the beginning that the tokenizer adds; chat
            templates write it themselves.
    """

    def __init__(self, tokenizer: Any, size: int, *, adds_start: bool) -> None:
        self._tokenizer = tokenizer
        # The library in Rust behind most of them; without the layer above it takes microseconds.
        self._fast = getattr(tokenizer, "_tokenizer", None)
        self._adds_start = adds_start
        self.size = size
        self.bos_text = str(tokenizer.bos_token or "")
        self.eos_text = str(tokenizer.eos_token or "")

    def tokenize(self, text: str, *, special: bool, start: bool = False) -> list[int]:
        """Return the ids of a text; see `prompt.Vocabulary`."""
        adds = start and self._adds_start
        if self._fast is None:
            return list(self._tokenizer.encode(text, add_special_tokens=adds))
        self._fast.encode_special_tokens = not special
        try:
            return list(self._fast.encode(text, add_special_tokens=adds).ids)
        finally:
            self._fast.encode_special_tokens = False

    def tokenize_whole(self, text: str) -> list[int]:
        """Return the ids of a text with the marks that the tokenizer sets around one."""
        return list(self._tokenizer.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens; control tokens have none."""
        decoder = self._tokenizer if self._fast is None else self._fast
        return str(decoder.decode(list(ids), skip_special_tokens=True))

    def start_of_control_text(self) -> re.Pattern[str] | None:
        """Return what matches one character where the text of a control token starts."""
        marks = {str(text) for text in self._tokenizer.all_special_tokens}
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        marks |= {token.content for token in added.values() if token.special}
        texts = "|".join(sorted(re.escape(mark) for mark in marks if len(mark) > 1))
        return re.compile(f"(?={texts})(?s:.)") if texts else None


class TokenText:
    """The text of tokens that come one by one.

    What a token adds depends on its neighbours, so a few are decoded with and without the new one.
    A character that is split over tokens comes with its last.

    Args:
        decode: Returns the text of tokens.
        before: Tokens that stand before the text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int]) -> None:
        self._decode = decode
        self._window = list(before[-CONTEXT_TOKENS:])
        self._given = decode(self._window)
        """The text of the window that was given out, or stands before."""
        self._pending = 0
        """Tokens at the end of the window whose text was not."""

    def push(self, token: int) -> str:
        """Take the next token; return the text that is complete with it."""
        self._window.append(token)
        self._pending += 1
        text = self._decode(self._window)
        if text.endswith(REPLACEMENT) and self._pending < LONGEST_CHARACTER_TOKENS:
            return ""
        return self._give(text)

    def finish(self) -> str:
        """Return what was held back, at the end of the text."""
        return self._give(self._decode(self._window)) if self._pending else ""

    def _give(self, text: str) -> str:
        new = text[len(self._given) :]
        self._window = self._window[-max(CONTEXT_TOKENS, self._pending) :]
        self._given = self._decode(self._window)
        self._pending = 0
        return new
