"""Small vocabularies of every kind that model files have.

Each knows single bytes or letters and a few longer pieces, so that a text becomes many tokens and a
character beyond ASCII is split over several.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

SPACE = "\u2581"
"""How SentencePiece and llama.cpp write a space within a token."""

WORDS = ("the", "and", "house", "computer", "model", "answer", "memory", "machine")

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
"""A conversation as it is, without marks: a further turn only adds to it."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a file says of its tokens.

    Attributes:
        metadata: Keys and values of the file.
        size: Tokens.
        end: The token that ends a turn.
    """

    metadata: Mapping[str, Any]
    size: int
    end: int


def byte_level(size: int = 512, pre: str = "gpt-2") -> Vocabulary:
    """Return bytes, the end of a turn, pieces that cut through characters, and made-up words.

    Args:
        size: Tokens. No text contains the words that fill the vocabulary up.
        pre: How a text is split before bytes are merged.
    """
    letters = byte_letters()
    texts = [*letters, "<|end|>"]
    merges = []
    for piece in (b" t", b" th", "世".encode()[:2], "é".encode()):
        left, right = "".join(letters[byte] for byte in piece[:-1]), letters[piece[-1]]
        texts.append(left + right)
        merges.append(f"{left} {right}")
    texts += [f"w{number}" for number in range(size - len(texts))]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": _types({256: TokenType.CONTROL}, size),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": 256,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    return Vocabulary(metadata, size, 256)


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte in a byte-level vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def sentence_piece() -> Vocabulary:
    """Return pieces that are merged, as llama's, and bytes for what they cannot spell."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = {0: TokenType.UNKNOWN, 1: TokenType.CONTROL, 2: TokenType.CONTROL}
    kinds |= dict.fromkeys(range(3, 259), TokenType.BYTE)
    metadata = _pieces("llama", special, kinds) | {
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }
    return Vocabulary(metadata, len(metadata["tokenizer.ggml.tokens"]), 2)


def unigram() -> Vocabulary:
    """Return pieces of which the likeliest are taken, as T5's; it has no bytes."""
    kinds = {0: TokenType.CONTROL, 1: TokenType.CONTROL, 2: TokenType.UNKNOWN}
    metadata = _pieces("t5", ["<pad>", "</s>", "<unk>"], kinds) | {
        "tokenizer.ggml.token_type_count": 1,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 2,
    }
    return Vocabulary(metadata, len(metadata["tokenizer.ggml.tokens"]), 1)


def word_piece() -> Vocabulary:
    """Return words and endings of words, as BERT's."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*string.ascii_lowercase, *string.digits, *".,?!"]
    texts = [*special, *(SPACE + piece for piece in (*letters, *WORDS)), *letters]
    kinds = dict.fromkeys(range(len(special)), TokenType.CONTROL)
    metadata = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": _types(kinds, len(texts)),
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    return Vocabulary(metadata, len(texts), 3)


def _pieces(model: str, special: Sequence[str], kinds: Mapping[int, TokenType]) -> dict[str, Any]:
    """Return a vocabulary of `special` tokens, letters, words and the beginnings of words."""
    pieces = [SPACE, *string.ascii_letters, *string.digits, *".,?!'"]
    for word in WORDS:
        pieces += [word[:length] for length in range(2, len(word) + 1)]
        pieces += [SPACE + word[:length] for length in range(1, len(word) + 1)]
    texts = [*special, *dict.fromkeys(pieces)]
    # The longer, the likelier.
    scores = [float(len(text)) * (at >= len(special)) for at, text in enumerate(texts)]
    return {
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": _types(kinds, len(texts)),
        "tokenizer.ggml.scores": scores,
    }


def _types(kinds: Mapping[int, TokenType], size: int) -> list[int]:
    return [int(kinds.get(token, TokenType.NORMAL)) for token in range(size)]
