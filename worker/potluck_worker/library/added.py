"""Models that the user added by path: used where they are, and never changed or deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from potluck_proto.errors import BadRequest, ModelFileError
from potluck_proto.kept import KeptFile
from potluck_worker.engines.vllm.checkpoint import (
    CONFIG,
    PICKLE_SUFFIXES,
    WEIGHTS_SUFFIX,
    is_checkpoint,
)
from potluck_worker.places import find_models

if TYPE_CHECKING:
    from potluck_worker.models import ModelStore
from potluck_worker.stored_model import StoredModel


class AddedPaths:
    """The paths that were added, kept over restarts.

    Args:
        file: Where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = KeptFile(file, list[str], "models added")
        self.paths: Sequence[Path] = [Path(path) for path in self._file.read() or []]

    def add(self, path: Path) -> None:
        """Remember a path."""
        self._write([*self.paths, path])

    def forget(self, path: Path) -> None:
        """Forget a path; what lies there stays."""
        self._write([other for other in self.paths if other != path])

    def place_of(self, model: Path) -> Path | None:
        """Return what was added for a model to be seen: its file, or the folder that it is in."""
        return next((path for path in self.paths if path in (model, model.parent)), None)

    def _write(self, paths: list[Path]) -> None:
        self._file.write([str(path) for path in paths])
        self.paths = paths


async def add(path: Path, store: ModelStore) -> list[StoredModel]:
    """Have a store see what lies at a path; return the models there, usable or not.

    Args:
        path: A GGUF file, the folder of a checkpoint, or a folder of such.
        store: It lists them from now on.

    Raises:
        BadRequest: The path says not where it is.
        ModelFileError: There is no model, and why; nothing is remembered then.
    """
    if not path.is_absolute():
        raise BadRequest(f"{str(path)!r} is not a whole path. Say where it is from the root on.")
    try:
        place = await asyncio.to_thread(_place, path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from error
    known = store.sees(place)
    if not known:
        store.added.add(place)
    await store.scan()
    models = [model for model in store.models if place in (model.path, model.path.parent)]
    if known or any(model.inspection is not None for model in models):
        return models
    store.added.forget(place)
    await store.scan()
    problem = next((model.problem for model in models if model.problem), None)
    raise problem or ModelFileError(f"{path} went away. Add it again when it is back.")


def _place(path: Path) -> Path:
    """Return what to remember for a path: of a split file, the first part.

    Raises:
        ModelFileError: There is no model.
        OSError: It cannot be looked at.
    """
    if not path.exists():
        raise ModelFileError(f"{path} does not exist on this machine.")
    found = find_models([path], caches=False)
    if not found:
        raise ModelFileError(_why_no_model(path))
    return path if path.is_dir() and not is_checkpoint(path) else found[0].path


def _why_no_model(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir()) if path.is_dir() else [path.name]
    if pickles := [name for name in names if name.endswith((*PICKLE_SUFFIXES, ".pkl", ".pickle"))]:
        return (
            f"{path} is no model that may be read: {pickles[0]} is a pickle, which can run program "
            "code when it is read. Get the model as GGUF or safetensors."
        )
    if any(name.endswith(WEIGHTS_SUFFIX) for name in names):
        return (
            f"{path} is a part of a checkpoint. Add the folder that has its {CONFIG} beside its "
            f"{WEIGHTS_SUFFIX} files."
        )
    return (
        f"{path} is no model: Potluck reads files that end in .gguf, folders with {CONFIG} and "
        f"{WEIGHTS_SUFFIX} files, and folders that have such directly in them."
    )
