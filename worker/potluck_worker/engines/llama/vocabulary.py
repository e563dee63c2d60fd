"""Tokens of one model: text to ids, ids to bytes."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as api
from numpy.typing import NDArray

PIECE_LIMIT_BYTES = 1024

BLOCK = 64
"""Tokens that are compared at once."""

CONTROL_ATTRIBUTES = api.LLAMA_TOKEN_ATTR_CONTROL | api.LLAMA_TOKEN_ATTR_UNKNOWN
"""Tokens that `llama_tokenize` finds in a text only where it may parse control tokens."""


class Vocabulary:
    """A model's vocabulary.

    Args:
        pointer: llama.cpp's vocabulary.
    """

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        self._pieces: dict[int, bytes] = {}
        self._buffer = ctypes.create_string_buffer(PIECE_LIMIT_BYTES)
        self.size = int(api.llama_vocab_n_tokens(pointer))
        self._bos = int(api.llama_vocab_bos(pointer))
        self.bos_text = self._text_of(self._bos)
        self.eos_text = self._text_of(api.llama_vocab_eos(pointer))
        self._adds_bos = self._bos >= 0 and bool(api.llama_vocab_get_add_bos(pointer))

    def _text_of(self, token: int) -> str:
        return self.piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def tokenize(self, text: str, *, special: bool, start: bool = False) -> list[int]:
        """Return the ids of a text.

        Args:
            text: What to tokenize.
            special: Whether marks such as `<|end|>` in it are control tokens.
            start: Whether it starts a prompt, where the model may want its mark of the beginning;
                one that the text has already is not doubled.
        """
        ids = self._tokenize(text.encode(), False, special)
        # Put in front here: the library would put the mark of an end behind as well.
        add = start and self._adds_bos and not (self.bos_text and text.startswith(self.bos_text))
        return [self._bos, *ids] if add else ids

    def tokenize_alone(self, text: str) -> list[int]:
        """Return the ids of a text by itself, with whatever marks the model wants around it."""
        return self._tokenize(text.encode(), True, False)

    def _tokenize(self, raw: bytes, add: bool, special: bool) -> list[int]:
        size = len(raw) + 8
        while True:
            ids = (api.llama_token * size)()
            count = api.llama_tokenize(self.pointer, raw, len(raw), ids, size, add, special)
            if count >= 0:
                return list(ids[:count])
            size = -count

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of a token; control tokens have none unless `special`."""
        if special:
            return self._piece(token, special)
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._piece(token, special)
        return piece

    def _piece(self, token: int, special: bool) -> bytes:
        length = api.llama_token_to_piece(
            self.pointer, token, self._buffer, PIECE_LIMIT_BYTES, 0, special
        )
        return self._buffer.raw[: max(0, length)]

    def ends(self, token: int) -> bool:
        """Say whether a token ends the model's turn."""
        return bool(api.llama_vocab_is_eog(self.pointer, token))

    @functools.cached_property
    def never_ends(self) -> bool:
        """Whether no token ends the model's turn."""
        return not any(self.ends(token) for token in range(self.size))

    @functools.cached_property
    def silent_ids(self) -> NDArray[np.int64]:
        """Control tokens that do not end a turn: an answer shows nothing of them."""
        silent = (
            token
            for token in range(self.size)
            if api.llama_vocab_get_attr(self.pointer, token) & CONTROL_ATTRIBUTES
            and not self.ends(token)
        )
        return np.fromiter(silent, np.int64)

    @functools.cached_property
    def split_characters(self) -> NDArray[np.bool_]:
        """For each token, whether it begins or ends within a character, or has bytes of none."""

        def splits(piece: bytes) -> bool:
            try:
                piece.decode()
            except UnicodeDecodeError:
                return True
            return False

        return np.fromiter((splits(self.piece(token)) for token in range(self.size)), np.bool_)

    def sha256(self) -> str:
        """Return a hash over the texts and types of all tokens: equal where ids mean the same."""
        digest = hashlib.sha256()
        for token in range(self.size):
            text = api.llama_vocab_get_text(self.pointer, token) or b""
            attributes = api.llama_vocab_get_attr(self.pointer, token)
            digest.update(b"%d:%d:%b" % (attributes, len(text), text))
        return digest.hexdigest()

    def start_of_control_text(self) -> re.Pattern[str] | None:
        """Return what matches one character where the text of a control token starts.

        `None` for a vocabulary without control tokens. A text of one character is left out: it
        cannot be cut.
        """
        marks = {
            (api.llama_vocab_get_text(self.pointer, token) or b"").decode(errors="replace")
            for token in range(self.size)
            if api.llama_vocab_get_attr(self.pointer, token) & CONTROL_ATTRIBUTES
        }
        texts = "|".join(sorted(re.escape(mark) for mark in marks if len(mark) > 1))
        return re.compile(f"(?={texts})(?s:.)") if texts else None


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common at their start."""
    length = min(len(left), len(right))
    start = 0
    while start < length and left[start : start + BLOCK] == right[start : start + BLOCK]:
        start += BLOCK
    while start < length and left[start] == right[start]:
        start += 1
    return min(start, length)
