"""Whether a licence permits commercial use: the files name it, a table says what it asks for."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from potluck_worker.engines.inspection import LicenceWords

TABLE = Path(__file__).with_name("licences.toml")

CommercialUse = Literal["yes", "conditions", "no", "unknown"]


class _Row(TypedDict):
    """A licence of the table."""

    names: list[str]
    commercial_use: CommercialUse
    terms: str
    link: str


@dataclass(frozen=True, slots=True)
class Licence:
    """What is known of a model's licence."""

    words: LicenceWords
    commercial_use: CommercialUse
    terms: str
    """What it asks for, in one sentence; empty where that is not known."""
    link: str
    """Where it stands, by the files or by the table."""
    source: str
    """Where the verdict is from."""


def licence(words: LicenceWords) -> Licence:
    """Return what follows from the words of a model's files."""
    table, day = _table()
    for said in (words.id, words.name):
        if row := table.get(_plain(said)):
            source = f"its files name {said!r}; the verdict is of Potluck's table of {day}"
            link = words.link or row["link"]
            return Licence(words, row["commercial_use"], row["terms"], link, source)
    named = " and ".join(repr(said) for said in (words.id, words.name) if said)
    source = (
        f"its files name {named}, which is not in the table" if named else "its files name none"
    )
    return Licence(words, "unknown", "", words.link, source)


@functools.cache
def _table() -> tuple[Mapping[str, _Row], str]:
    """Return the rows by the names that models use, and the table's day."""
    read = tomllib.loads(TABLE.read_text())
    rows = {_plain(name): row for row in read["licence"] for name in row["names"]}
    return rows, read["of"]


def _plain(name: str) -> str:
    """Return a name without case and punctuation, which files write variously."""
    return re.sub(r"[^a-z0-9.+]", "", name.lower())
