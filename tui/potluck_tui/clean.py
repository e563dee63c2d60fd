"""Text from a model is hostile to a terminal: nothing in it may act, everything in it may show."""

from __future__ import annotations

import re

_DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directional overrides, which show text out of order
    "\u2028\u2029]"  # line ends that only some programs see
)


def clean(text: str) -> str:
    """Return `text` with each control character replaced by U+FFFD; tabs and newlines stay."""
    return _DANGEROUS.sub("\ufffd", text.replace("\r\n", "\n"))
