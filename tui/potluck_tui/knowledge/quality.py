"""What a scheme of quantization typically costs in quality."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("quantizations.toml")

WHOLE = ("F32", "F16", "BF16", "FP16", "SAFETENSORS")
"""Weights that are not quantized."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What a scheme costs."""

    words: str
    """In a word or two."""
    perplexity_rise: float | None = None
    """Over 16 bits, as a share; `None` where nobody measured it for this table."""

    @property
    def cost(self) -> str:
        """The rise as a person reads it, `+2.8%`; empty where it is none or not known."""
        words = f"+{self.perplexity_rise or 0.0:.1%}"
        return "" if words == "+0.0%" else words


def quality(scheme: str) -> Quality:
    """Return what a scheme costs, by the table where it has it, else by its bits alone."""
    name = scheme.upper().removeprefix("UD-")
    if name in WHOLE:
        return Quality("as made", 0.0)
    table = _table()
    if (rise := table["schemes"].get(name)) is not None:
        share = rise / table["perplexity"]
        return Quality(_words(share), share)
    digits = [letter for letter in name if letter.isdigit()]
    return Quality(_WORDS_BY_BITS.get(digits[0] if digits else "", "not known"))


def source() -> str:
    """Return where the figures are from, and of which model they are."""
    table = _table()
    return f"perplexity of {table['model']}, {table['source']}, {table['date']}"


_WORDS_BY_BITS = {
    "8": "as good",
    "6": "as good",
    "5": "very good",
    "4": "good",
    "3": "worse",
    "2": "poor",
    "1": "poor",
}


def _words(share: float) -> str:
    for limit, words in ((0.005, "as good"), (0.02, "very good"), (0.08, "good"), (0.15, "worse")):
        if share <= limit:
            return words
    return "poor"


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text())
