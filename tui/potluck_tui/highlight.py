"""Marks the words of a search on lines of the screen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.style import Style
from textual.strip import Strip

MARK = Style(reverse=True)


def words_of(query: str) -> tuple[str, ...]:
    """Return the words of a query, those between double quotes together, as they are looked for."""
    found = (quoted or bare for quoted, bare in re.findall(r'"([^"]*)"?|([^\s"]+)', query))
    return tuple(folded for word in found if (folded := folded_text(word).strip()))


def marked(line: Strip, words: Sequence[str]) -> Strip:
    """Return a line with every word marked that begins with one of `words`."""
    text = line.text
    spans = sorted(match.span() for match in _pattern(tuple(words)).finditer(folded_text(text)))
    if not spans:
        return line
    cuts, marks = [], []
    for start, stop in spans:
        cuts += [cell_len(text[:start]), cell_len(text[:stop])]
        marks += [False, True]
    pieces = line.divide([*cuts, line.cell_length])
    return Strip.join(
        piece.apply_style(MARK) if mark else piece
        for piece, mark in zip(pieces, [*marks, False], strict=False)
    )


def holds(line: Strip, words: Sequence[str]) -> bool:
    """Say whether a line has something to mark."""
    return _pattern(tuple(words)).search(folded_text(line.text)) is not None


def folded_text(text: str) -> str:
    """Return a text without case and accents, character for character."""
    return text.lower() if text.isascii() else "".join(map(_folded, text))


@lru_cache(4096)
def _folded(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character)[0].lower()
    return plain if len(plain) == 1 else character


@lru_cache(8)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?<!\w){re.escape(word)}" for word in words) or "(?!)")
