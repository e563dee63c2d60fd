"""Where models are on this machine: in folders of Potluck and the user, and in others' caches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from potluck_worker.engines.fake import FAKE_SUFFIX
from potluck_worker.engines.vllm.checkpoint import files_of, is_checkpoint
from potluck_worker.library.caches import GGUF_SUFFIX, Borrowed, borrowed_models
from potluck_worker.splits import parts_of, whole_name


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What changes when a file does."""

    size_bytes: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Place:
    """A model's file, the first part of a split one, or the folder of a checkpoint."""

    path: Path
    stamp: FileStamp
    borrowed: Borrowed | None = None
    """Set where it belongs to another program."""

    @property
    def stem(self) -> str:
        """Its name without ending and part number."""
        return self.borrowed.name if self.borrowed else stem_of(self.path)


def find_models(places: Sequence[Path], *, caches: bool) -> list[Place]:
    """Return the models at and directly below the places, then those of other programs.

    Args:
        places: Files and folders.
        caches: Whether to look for other programs' models; those that are links of ours are not
            listed twice.
    """
    found = {place.path: place for place in _ours(places)}
    if caches:
        ours = {path.resolve() for path in found}
        for model in borrowed_models():
            parts = files_of(model.path) if model.path.is_dir() else parts_of(model.path)
            first = model.path if model.path.is_dir() else parts[0]
            if first in found or first.resolve() in ours:
                continue
            if (stamp := _stamp(parts)) is not None:
                found[first] = Place(first, stamp, model)
    return list(found.values())


def _ours(places: Iterable[Path]) -> Iterator[Place]:
    """Yield the models at and directly below the places; of a split file, the first part.

    That also where it is missing and others are there, so that somebody hears of it.
    """
    for place in places:
        alone = not place.is_dir() or is_checkpoint(place)
        for path in [place] if alone else sorted(place.iterdir()):
            if is_checkpoint(path):
                parts, first = files_of(path), path.absolute()
            elif path.name.endswith((GGUF_SUFFIX, FAKE_SUFFIX)):
                parts = parts_of(path)
                first = parts[0].absolute()
            else:
                continue
            if (stamp := _stamp(parts)) is not None:
                yield Place(first, stamp)


def stem_of(path: Path) -> str:
    """Return a file's name without its ending and part number."""
    return whole_name(path).removesuffix(FAKE_SUFFIX).removesuffix(GGUF_SUFFIX)


def _stamp(parts: Iterable[Path]) -> FileStamp | None:
    """Return the size of a model's files and their last change, or none where there are none."""
    statuses = []
    for part in parts:
        with contextlib.suppress(OSError):
            statuses += [part.stat()] if part.is_file() else []
    if not statuses:
        return None
    return FileStamp(
        sum(status.st_size for status in statuses), max(status.st_mtime_ns for status in statuses)
    )
