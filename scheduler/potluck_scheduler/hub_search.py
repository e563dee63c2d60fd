"""What a search of the hub means: words for the hub, and wishes that its answers are held against.

| a word such as | leaves |
| --- | --- |
| `fits` | what some node of the pool would hold |
| `below:8B` | what has fewer parameters, or as many; `500M` is one too |
| `quant:Q4_K_M` | what comes in that quantization |
| `licence:apache-2.0` | what is under that licence; `licence:commercial` what permits such use |

What the hub does not say of a repository, that repository is not found by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.convert import COMMERCIAL

FITS = "fits"
BELOW, QUANTIZATION, LICENCE = "below", "quant", "licence"

_COUNT = re.compile(r"(\d+(?:\.\d+)?)([mb])", re.IGNORECASE)
_UNITS = {"m": 10**6, "b": 10**9}
_BELOW_SLACK = 1.1
"""Models that are called 8B have up to a tenth more."""


@dataclass(frozen=True, slots=True)
class Search:
    """Words to search for, and wishes; what is empty or 0 is any."""

    words: str
    fits: bool = False
    most_parameters: int = 0
    quantization: str = ""
    licence: str = ""

    @classmethod
    def read(cls, query: str) -> Search:
        """Take what was typed apart. Raises `BadRequest` for a wish that there is not."""
        words: list[str] = []
        wishes = {BELOW: "", QUANTIZATION: "", LICENCE: ""}
        for word in query.split():
            kind, colon, value = word.partition(":")
            kind = {"license": LICENCE}.get(kind.lower(), kind.lower())
            if not colon:
                words.append(word)
            elif kind in wishes and value:
                wishes[kind] = value.lower()
            else:
                raise BadRequest(
                    f"{word!r} is no wish for a search. There are: fits, below:8B, quant:Q4_K_M, "
                    "licence:apache-2.0, licence:commercial."
                )
        rest = [word for word in words if word.lower() != FITS]
        return cls(
            words=" ".join(rest),
            fits=len(rest) < len(words),
            most_parameters=_parameters(wishes[BELOW]),
            quantization=wishes[QUANTIZATION],
            licence=wishes[LICENCE],
        )

    @property
    def wishes(self) -> bool:
        """Whether it asks for more than words."""
        return bool(self.fits or self.most_parameters or self.quantization or self.licence)

    def of(self, repositories: Iterable[types.HubRepository]) -> Sequence[types.HubRepository]:
        """Return those repositories that meet all wishes; they say already where they fit."""
        return [repository for repository in repositories if self._meets(repository)]

    def _meets(self, repository: types.HubRepository) -> bool:
        there = [name.lower() for name in repository.quantizations]
        return (
            (not self.fits or (repository.HasField("fit") and not repository.fit.missing_bytes))
            and (not self.quantization or self.quantization in there)
            and (not self.licence or _is_under(repository.licence, self.licence))
            and (
                not self.most_parameters
                or 0 < repository.parameter_count <= self.most_parameters * _BELOW_SLACK
            )
        )


def _is_under(licence: types.Licence, wanted: str) -> bool:
    if wanted == "commercial":
        return licence.commercial_use in COMMERCIAL
    return wanted in (licence.id.lower(), licence.name.lower())


def _parameters(typed: str) -> int:
    """Return a count such as `8b`; 0 for none. Raises `BadRequest`."""
    if not typed:
        return 0
    if (match := _COUNT.fullmatch(typed)) is None:
        raise BadRequest(f"below:{typed} is no count of parameters; one is 8B or 500M.")
    return int(float(match[1]) * _UNITS[match[2].lower()])
