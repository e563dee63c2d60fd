"""One model of a node: what it is, and what it is called."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from potluck_proto.errors import PotluckError
from potluck_worker.engines.inspection import Inspection
from potluck_worker.engines.sizing import Plan
from potluck_worker.engines.vllm.checkpoint import WEIGHTS_SUFFIX
from potluck_worker.library.caches import Borrowed
from potluck_worker.places import FileStamp, stem_of
from potluck_worker.splits import parts_of

PACKAGED = Path(__file__).parent / "models"
"""Holds the starter model."""

Key = tuple[str, str]
"""Name and quantization."""

_QUANTIZATION = re.compile(r"[-._]((?:I?Q\d|BF16|F16|F32)\w*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of this node: a file, or the folder of a checkpoint."""

    path: Path
    name: str
    quantization: str
    engine: str
    stamp: FileStamp
    inspection: Inspection | None
    plan: Plan | None
    """How this node holds it by default, corrected by what it took before."""
    problem: PotluckError | None
    borrowed: Borrowed | None = None
    """Set where its files belong to another program."""
    prompt_format: str = ""
    """By name, in place of its chat template: as chosen, else from the settings."""

    @property
    def key(self) -> Key:
        """Name and quantization, which no two usable models of a node share."""
        return self.name, self.quantization

    @property
    def files(self) -> list[Path]:
        """Its weights: the file, all parts of a split one, or those of a checkpoint.

        None of them where they are not read, as behind a link out of a cache.
        """
        if self.borrowed is not None and self.borrowed.problem:
            return []
        if self.path.is_dir():
            return sorted(self.path.glob(f"*{WEIGHTS_SUFFIX}"))
        return [part for part in parts_of(self.path) if part.exists()]

    @property
    def file_bytes(self) -> int:
        """Size of the file, or of all parts of a split one."""
        return self.stamp.size_bytes

    @property
    def file_id(self) -> str:
        """What changes when the file does."""
        return f"{self.path.name} {self.stamp.size_bytes} {self.stamp.changed_ns}"

    @property
    def starter(self) -> bool:
        """Whether it is the model that comes with Potluck."""
        return self.path.parent == PACKAGED

    @property
    def memory_needed_bytes(self) -> int:
        """What loading it takes, by the engine's own account; 0 where it cannot be loaded."""
        return self.plan.estimate.total_bytes if self.plan else 0

    def answers_to(self, name: str, quantization: str) -> bool:
        """Say whether a reference means this model; case does not matter."""
        mine = {self.name.lower(), stem_of(self.path).lower()}
        return name.lower() in mine and quantization.lower() in ("", self.quantization.lower())

    @property
    def bits_per_weight(self) -> float:
        """What tells better quantizations from worse; 0 where its files could not be read."""
        return self.inspection.bits_per_weight if self.inspection else 0.0


def names_of(name: str, inspection: Inspection | None = None) -> tuple[str, str]:
    """Return the name and the quantization of a model, the latter by its file where it says it.

    Args:
        name: Its file's, without the ending.
        inspection: What the file says, where it could be read.
    """
    if inspection is not None:
        quantization = inspection.quantization
    else:
        # The file cannot say it, and people will ask for it by the same name.
        match = _QUANTIZATION.search(name)
        quantization = match[1].upper() if match else ""
    if quantization:
        name = re.sub(rf"[-._]{re.escape(quantization)}$", "", name, flags=re.IGNORECASE)
    return name, quantization


def told_apart(models: Sequence[StoredModel]) -> list[StoredModel]:
    """Return models with another name for each borrowed one whose name others have."""
    taken = {model.key for model in models if not model.borrowed}
    told = []
    for model in models:
        if model.borrowed:
            free = (n for n in _possible_names(model) if (n, model.quantization) not in taken)
            model = replace(model, name=next(free))
        taken.add(model.key)
        told.append(model)
    return told


def _possible_names(model: StoredModel) -> Iterator[str]:
    """Yield what a borrowed model may be called, the best first: with its owner, and a number."""
    assert model.borrowed is not None
    yield model.name
    owner = model.borrowed.owner.lower().replace(" ", "-")
    yield f"{model.name}-{owner}"
    yield from (f"{model.name}-{owner}-{number}" for number in itertools.count(2))
