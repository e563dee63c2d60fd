"""The catalogue of well-known models: a data file, with a date and a source for each row."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from potluck_proto.errors import SettingsError
from potluck_proto.home import Home
from potluck_proto.kept import KeptFile
from potluck_proto.plain import plain

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
    """Of the day when it was written down, or when the hub was asked last."""
    downloads: int = 0
    """As the hub counts them; 0 where it was not asked."""
    sizes: Mapping[str, int] = {}
    """Bytes of each variant that its repository has; empty where the hub was not asked."""

    @property
    def active(self) -> int:
        """Weights that are read for each token."""
        return self.active_parameters or self.parameters

    def kv_cache_bytes(self, context_length: int) -> int:
        """Return what the keys and values of so many tokens take, at 16 bits."""
        return 4 * self.layers * self.kv_width * context_length


@dataclass(frozen=True, slots=True)
class Renewed:
    """What the hub said of a repository: what it left out is 0 or empty."""

    parameters: int
    licence: str
    downloads: int
    sizes: Mapping[str, int]
    date: str


RENEWED_NAME = "catalogue-hub.json"


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
        """Return the catalogue of the home, else the one that comes along, as renewed from the hub.

        Raises:
            SettingsError: The home's has a mistake.
        """
        own = home.root / PACKAGED.name
        path = own if own.exists() else PACKAGED
        try:
            read = _File.model_validate(tomllib.loads(path.read_text()))
        except (OSError, ValueError, ValidationError) as error:
            raise SettingsError(f"The catalogue {path} cannot be used: {plain(error)}.") from error
        renewed = _renewed_file(home).read() or {}
        return cls([_renewed(row, renewed.get(row.repository)) for row in read.model], read.date)


def keep_renewed(home: Home, renewed: Mapping[str, Renewed]) -> None:
    """Keep what the hub said in the home, beside what it said before of others."""
    file = _renewed_file(home)
    file.write({**(file.read() or {}), **renewed})


def _renewed_file(home: Home) -> KeptFile[dict[str, Renewed]]:
    return KeptFile(home.root / RENEWED_NAME, dict[str, Renewed], "hub's words on the catalogue")


def _renewed(row: Row, said: Renewed | None) -> Row:
    """Return a row with what the hub said of it."""
    if said is None:
        return row
    known = {name: value for name, value in asdict(said).items() if value}
    return row.model_copy(update=known)
