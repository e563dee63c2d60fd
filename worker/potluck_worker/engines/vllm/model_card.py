"""The head of a checkpoint's README, in which its maker names licence and lineage.

It is YAML. What counts of it is a name with a text or a list of texts, so that much is read and the
rest passed over: the base install has no YAML, and strangers' YAML can do more than data should.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_CHARACTERS = 65_536

_ENTRY = re.compile(r"^([A-Za-z_][\w-]*):[ \t]*(.*)$")
_ITEM = re.compile(r"^[ \t]*-[ \t]+(.+)$")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the head of a README says; empty where there is none."""

    said: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Return the card of a checkpoint's folder."""
        try:
            with (folder / "README.md").open(errors="replace") as file:
                return cls(_parse(file.read(LIMIT_CHARACTERS)))
        except OSError:
            return cls({})

    def texts(self, name: str) -> Sequence[str]:
        """Return all that stands under a name."""
        return self.said.get(name, ())

    def text(self, name: str) -> str:
        """Return the first that stands under a name, else nothing."""
        return next(iter(self.texts(name)), "")


def _parse(text: str) -> dict[str, list[str]]:
    lines = iter(text.splitlines())
    if next(lines, "").strip() != "---":
        return {}
    found: dict[str, list[str]] = {}
    items: list[str] = []
    for line in lines:
        if line.strip() == "---":
            return found
        if match := _ENTRY.match(line):
            items = found.setdefault(match[1], [])
            items += _values(match[2])
        elif match := _ITEM.match(line):
            items.append(_unquoted(match[1]))
        else:
            items = []
    return {}


def _values(text: str) -> list[str]:
    """Return what stands behind a name: nothing, one text, or a list in brackets."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [value for item in text[1:-1].split(",") if (value := _unquoted(item))]
    value = _unquoted(text)
    return [] if value in ("", "|", ">", ">-", "null") else [value]


def _unquoted(text: str) -> str:
    text = text.strip()
    if text[:1] in "'\"" and text[-1:] == text[:1] and len(text) > 1:
        return text[1:-1]
    return text.partition(" #")[0].strip()
