"""LoRA adapters as they are published for PyTorch: a folder with a config and safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import BadRequest, ModelFileError

CONFIG = "adapter_config.json"

RANKS_HELD = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The sizes that vLLM makes room for."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter."""

    folder: Path
    rank: int

    @classmethod
    def read(cls, path: Path) -> Adapter:
        """Return what a folder holds, or the folder of a file in it. Raises `ModelFileError`."""
        folder = path.parent if path.is_file() else path
        if not (folder / "adapter_model.safetensors").is_file():
            raise ModelFileError(
                f"{folder.name} holds no LoRA adapter for vLLM: there is no "
                "adapter_model.safetensors in it."
            )
        try:
            rank = int(json.loads((folder / CONFIG).read_bytes())["r"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"{folder.name}/{CONFIG} cannot be read. Download it again."
            ) from error
        if not 0 < rank <= RANKS_HELD[-1]:
            raise ModelFileError(
                f"The adapter {folder.name} has rank {rank}; vLLM takes 1 to {RANKS_HELD[-1]}."
            )
        return cls(folder, rank)

    @property
    def rank_held(self) -> int:
        """The room that it needs."""
        return next(held for held in RANKS_HELD if held >= self.rank)


def is_adapter(folder: Path) -> bool:
    """Say whether a folder looks like an adapter."""
    return (folder / CONFIG).is_file()


def only_adapter(paths: Sequence[str]) -> Adapter | None:
    """Return the adapter that a load names, if it does.

    Raises:
        BadRequest: It names several, which vLLM cannot apply to one answer.
        ModelFileError: It is none.
    """
    if len(paths) > 1:
        raise BadRequest(
            f"vLLM applies one LoRA adapter to an answer; {len(paths)} are named. Name one, or "
            "merge them into one."
        )
    return Adapter.read(Path(paths[0])) if paths else None
