"""The catalogue of well-known models: a data file, with a date and a source for each row."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from potluck_proto.errors import SettingsError
from potluck_proto.home import Home

PACKAGED = Path(__file__).with_name("catalogue.toml")


class Row(BaseModel):
    """One model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """As its files are called, without a quantization."""
    repository: str
    parameters: int = Field(gt=0)
    active_parameters: int = Field(0, ge=0)
    """Weights that take part in each token; 0 is all."""
    context_length: int = Field(gt=0)
    layers: int = Field(gt=0)
    kv_width: int = Field(gt=0)
    licence: str
    uses: tuple[str, ...]
    source: str
    date: str

    @property
    def active(self) -> int:
        """Weights that are read for each token."""
        return self.active_parameters or self.parameters

    def kv_cache_bytes(self, context_length: int) -> int:
        """Return what the keys and values of so many tokens take, at 16 bits."""
        return 4 * self.layers * self.kv_width * context_length


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    date: str
    model: list[Row]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All rows, and when they were put together."""

    rows: Sequence[Row]
    date: str

    @classmethod
    def read(cls, home: Home) -> Catalogue:
        """Return the catalogue of the home, else the one that comes along.

        Raises:
            SettingsError: The home's has a mistake.
        """
        own = home.root / PACKAGED.name
        path = own if own.exists() else PACKAGED
        try:
            read = _File.model_validate(tomllib.loads(path.read_text()))
        except (OSError, ValueError, ValidationError) as error:
            raise SettingsError(f"The catalogue {path} cannot be used: {error}.") from error
        return cls(read.model, read.date)
