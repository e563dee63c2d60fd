"""Models that are split over several files of one folder: `NAME-00001-of-00003.gguf` and so on.

The first part stands for the model.
"""

from __future__ import annotations

import re
from pathlib import Path

MOST_PARTS = 999
"""A name that speaks of more is just a name."""

_PART = re.compile(r"-\d{5}-of-(\d{5})(?=\.gguf$)")


def parts_of(path: Path) -> list[Path]:
    """Return all files of the model that a file is or belongs to, whether they exist or not."""
    match = _PART.search(path.name)
    if match is None or not 0 < int(match[1]) <= MOST_PARTS:
        return [path]
    before, after = path.name[: match.start()], path.name[match.end() :]
    return [
        path.with_name(f"{before}-{number:05d}-of-{match[1]}{after}")
        for number in range(1, int(match[1]) + 1)
    ]


def whole_name(path: Path) -> str:
    """Return the name of the file that a model would be without its parts."""
    return _PART.sub("", path.name)
