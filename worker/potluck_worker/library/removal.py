"""Deleting models and leftovers: only what is in the home, never files of anybody else."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import BadRequest, ModelFileError
from potluck_proto.home import Home
from potluck_worker.engine_log import engine_log_path
from potluck_worker.library.added import AddedPaths
from potluck_worker.library.staging import is_held
from potluck_worker.splits import parts_of
from potluck_worker.stored_model import StoredModel


@dataclass(frozen=True, slots=True)
class Removal:
    """A file or folder to delete."""

    path: Path
    freed_bytes: int
    """Nothing for a link, or for a file that has another name too."""
    reason: str
    forgotten: bool = False
    """Nothing is deleted; it is not listed any more."""


def removals_of(model: StoredModel, home: Home, added: AddedPaths) -> list[Removal]:
    """Return what to delete, or to forget, so that a model is gone.

    Raises:
        BadRequest: It is not ours to delete; the message says what to do instead.
    """
    if model.borrowed is not None:
        raise BadRequest(
            f"{model.name} belongs to {model.borrowed.owner}, and Potluck never changes files of "
            f"other programs. Remove it there: {model.borrowed.remove_with}"
        )
    if model.starter:
        raise BadRequest(f"{model.name} comes with Potluck, and goes with it.")
    if (place := added.place_of(model.path)) is not None:
        whole = "" if place == model.path else ", with all models in it"
        return [Removal(place, 0, f"only forgotten{whole}; the files stay", forgotten=True)]
    if model.path.parent != home.models:
        raise BadRequest(
            f"{model.name} is {model.path}, outside of {home.models}. Potluck deletes only there: "
            "delete the file yourself, or take its folder out of worker.model_paths."
        )
    parts = [model.path] if model.path.is_dir() else parts_of(model.path)
    there = [part for part in parts if part.exists() or part.is_symlink()]
    return [Removal(part, freed_bytes(part), "the model") for part in there]


def leftovers(home: Home, models: Iterable[StoredModel]) -> list[Removal]:
    """Return what nobody needs; the logs of models that are not among `models` are that too."""
    found = [
        Removal(path, freed_bytes(path), "an unfinished download")
        for path in _entries(home.downloads)
        if not is_held(path)
    ]
    logs = {engine_log_path(home.logs, model.name, model.quantization).name for model in models}
    found += [
        Removal(path, freed_bytes(path), "the log of a model that is gone")
        for path in _entries(home.logs)
        if path.name.startswith("engine-") and path.name.removesuffix(".1") not in logs
    ]
    return found


def delete(removals: Iterable[Removal]) -> None:
    """Delete what is to be deleted; what is gone already is no failure.

    Raises `ModelFileError` where that is refused.
    """
    for removal in removals:
        if removal.forgotten:
            continue
        path = removal.path
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise ModelFileError(f"{path} cannot be deleted: {error.strerror}.") from error


def freed_bytes(path: Path) -> int:
    """Return what deleting a file or folder sets free."""
    if path.is_symlink():
        return 0
    files = [file for file in path.rglob("*") if not file.is_symlink()] if path.is_dir() else [path]
    statuses = [file.stat() for file in files if file.is_file()]
    return sum(status.st_size for status in statuses if status.st_nlink == 1)


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(folder.iterdir())
