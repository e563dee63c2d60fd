"""Hashes of model files: read once, kept until a file changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import ModelFileError
from potluck_proto.kept import KeptFile

READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class FileHash:
    """The hash of one file, and what changes when the file does."""

    name: str
    sha256: str
    size_bytes: int
    changed_ns: int


@dataclass(slots=True)
class Reading:
    """How far files were read for their hashes."""

    done_bytes: int = 0
    abandoned: bool = False
    """Nobody waits for it any more: a thread that reads stops at its next bytes."""


class Hashes:
    """The hashes of this node's model files.

    Args:
        cache: Where they are kept between runs.
    """

    def __init__(self, cache: Path) -> None:
        self._file = KeptFile(cache, dict[str, FileHash], "hashes")
        self._known = self._file.read() or {}

    def known(self, paths: Iterable[Path]) -> Sequence[FileHash]:
        """Return the hashes of those files that were read before, and did not change since."""
        return [found for path in paths if (found := self._known_of(path)) is not None]

    async def all(
        self, paths: Iterable[Path], reading: Reading | None = None
    ) -> Sequence[FileHash]:
        """Return the hash of each file; a file is read at some GB a second where it is new.

        Args:
            paths: The files.
            reading: Learns how far that is.

        Raises:
            ModelFileError: One cannot be read.
        """
        reading, hashes = reading or Reading(), []
        for path in paths:
            found = self._known_of(path)
            if found is None:
                found = await asyncio.to_thread(_hash, path, reading)
                self._keep({path: found})
            else:
                reading.done_bytes += found.size_bytes
            hashes.append(found)
        return hashes

    def learn(self, sha256: Mapping[Path, str]) -> None:
        """Remember what somebody else has found of files, as they are now."""
        found = {}
        for path, digest in sha256.items():
            status = path.stat()
            found[path] = FileHash(path.name, digest, status.st_size, status.st_mtime_ns)
        self._keep(found)

    def _keep(self, found: Mapping[Path, FileHash]) -> None:
        self._known |= {str(path): each for path, each in found.items()}
        self._file.write(self._known)

    def _known_of(self, path: Path) -> FileHash | None:
        found = self._known.get(str(path))
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = (status.st_size, status.st_mtime_ns)
        return found if found and (found.size_bytes, found.changed_ns) == stamp else None


def _hash(path: Path, reading: Reading) -> FileHash:
    digest = hashlib.sha256()
    try:
        status = path.stat()
        with path.open("rb") as file:
            while not reading.abandoned and (data := file.read(READ_BYTES)):
                digest.update(data)
                reading.done_bytes += len(data)
    except OSError as error:
        raise ModelFileError(f"{path.name} cannot be read: {error.strerror}.") from error
    if reading.abandoned:
        raise ModelFileError(f"{path.name} was not read to its end: nobody waits for its hash.")
    return FileHash(path.name, digest.hexdigest(), status.st_size, status.st_mtime_ns)


def sha256_of(path: Path) -> str:
    """Return the hash of a file. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
