"""Copies of models between the nodes of a pool: what one offers, and how another takes it.

The one that takes asks for each file from where it has it, so a copy that broke goes on; it checks
each by its hash, and lists nothing before all of it is there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from potluck_proto.errors import BadRequest, LostError, ModelFileError
from potluck_proto.home import Home
from potluck_worker.engines.vllm.checkpoint import files_of
from potluck_worker.library.hashes import Hashes
from potluck_worker.library.staging import held, require_disk, take_in
from potluck_worker.models import ModelStore
from potluck_worker.stored_model import StoredModel

if TYPE_CHECKING:
    Hash = hashlib._Hash

CHUNK_BYTES = 2**20
MOST_FILES = 2000


@dataclass(frozen=True, slots=True)
class Offered:
    """A file of a model."""

    name: str
    """What it is called where it goes."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A model, as another node would have it."""

    folder: str
    """For a checkpoint; else empty."""
    files: Sequence[Offered]


def sources(model: StoredModel) -> dict[str, Path]:
    """Return the files of a model by the names that a copy gets.

    Raises:
        BadRequest: Every node has it already.
        ModelFileError: It is not read, and why.
    """
    if model.starter:
        raise BadRequest(f"{model.name} comes with Potluck: every node has it.")
    if model.borrowed is not None and model.borrowed.problem:
        raise ModelFileError(model.borrowed.problem)
    if model.path.is_dir():
        return {path.name: path for path in sorted(files_of(model.path)) if path.is_file()}
    files = model.files
    if model.borrowed and len(files) == 1:
        # Another program may call it by its hash.
        return {f"{'-'.join(filter(None, model.key))}.gguf": files[0]}
    return {path.name: path for path in files}


async def offer(model: StoredModel, hashes: Hashes) -> Offer:
    """Return what a node offers of a model; its files are read whole where that never was done."""
    files = sources(model)
    known = await hashes.all(files.values())
    return Offer(
        folder=model.name if model.path.is_dir() else "",
        files=[
            Offered(name, found.sha256, found.size_bytes)
            for name, found in zip(files, known, strict=True)
        ],
    )


async def content(model: StoredModel, name: str, offset: int) -> AsyncIterator[bytes]:
    """Yield a file of a model from an offset on. Raises `BadRequest` and `ModelFileError`."""
    path = sources(model).get(name)
    if path is None:
        raise BadRequest(f"{model.name} has no file {name!r}.")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            async for data in _chunks(file):
                yield data
    except OSError as error:
        raise ModelFileError(f"{path.name} cannot be read: {error.strerror}.") from error


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield what is left of a file; a chunk is read while the one before it goes out."""

    def read() -> asyncio.Task[bytes]:
        return asyncio.create_task(asyncio.to_thread(file.read, CHUNK_BYTES))

    ahead = read()
    try:
        while data := await ahead:
            ahead = read()
            yield data
    finally:
        await asyncio.wait([ahead])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which file is to be sent, from where on."""

    file: str
    offset: int


class Receiver:
    """Takes one copy.

    Args:
        home: Where models go.
        store: Lists it.
        hashes: Learns its hashes.
        offered: What comes.

    Raises:
        BadRequest: It may not come: a name with tricks, or one that is taken.
    """

    def __init__(self, home: Home, store: ModelStore, hashes: Hashes, offered: Offer) -> None:
        self._home = home
        self._store = store
        self._hashes = hashes
        self._offer = offered
        _check_names(offered)
        whole = hashlib.sha256("".join(file.sha256 for file in offered.files).encode())
        self._staging = home.downloads / f"copy--{whole.hexdigest()[:24]}"
        self._target = home.models / offered.folder
        self._require_free_names()

    @property
    def first(self) -> Path:
        """Where the model will be: its file, or its folder."""
        return self._target if self._offer.folder else self._target / self._offer.files[0].name

    async def take(self, data: AsyncIterator[bytes]) -> AsyncGenerator[Wanted, None]:
        """Yield what is wanted, and take it from `data`.

        Raises:
            ModelFileError: What came is not what was offered.
            LostError: The data ended early; what came is kept.
            DiskFull: There is no room for it.
            BadRequest: The same comes already.
        """
        size_bytes = sum(file.size_bytes for file in self._offer.files)
        with held(self._staging):
            require_disk(self._staging, size_bytes, "The copy")
            async for wanted in self._take_files(data):
                yield wanted
        await take_in(
            self._home,
            self._store,
            self._hashes,
            staging=self._staging,
            folder=self._offer.folder,
            sha256={file.name: file.sha256 for file in self._offer.files},
        )

    async def _take_files(self, data: AsyncIterator[bytes]) -> AsyncIterator[Wanted]:
        for file in self._offer.files:
            target = self._staging / file.name
            if target.exists():
                continue
            part = self._staging / f"{file.name}.part"
            digest, there = await asyncio.to_thread(_hash_so_far, part, file.size_bytes)
            if there < file.size_bytes or not file.size_bytes:
                yield Wanted(file.name, there)
            await self._write(part, file, there, digest, data)
            if digest.hexdigest() != file.sha256:
                part.unlink()
                raise ModelFileError(f"{file.name} came damaged; nothing of it is kept. Try again.")
            part.replace(target)

    async def _write(
        self,
        part: Path,
        file: Offered,
        there: int,
        digest: Hash,
        data: AsyncIterator[bytes],
    ) -> None:
        """Write what comes of a file, and hash it, each chunk while the next one comes."""
        with part.open("ab") as output:
            writing = asyncio.create_task(asyncio.to_thread(_append, output, b"", digest))
            try:
                while there < file.size_bytes:
                    chunk = await anext(data, b"")
                    _check_chunk(file, there, chunk)
                    await writing
                    writing = asyncio.create_task(asyncio.to_thread(_append, output, chunk, digest))
                    there += len(chunk)
            finally:
                await writing

    def _require_free_names(self) -> None:
        names = [file.name for file in self._offer.files]
        places = [self._target] if self._offer.folder else [self._target / n for n in names]
        if taken := [place for place in places if place.exists()]:
            raise BadRequest(f"{taken[0]} is there already. Rename it, or delete it first.")


def _check_names(offered: Offer) -> None:
    """Raise `BadRequest` for what is no offer, or whose names would lead elsewhere."""
    names = [file.name for file in offered.files]
    if not 0 < len(names) <= MOST_FILES or len(set(names)) != len(names):
        raise BadRequest("An offer has files, each once.")
    for name in _all_names(offered):
        if not name.isprintable() or "/" in name or "\\" in name or name.startswith("."):
            raise BadRequest(f"{name!r} cannot be the name of a model's file.")


def _all_names(offered: Offer) -> Iterator[str]:
    if offered.folder:
        yield offered.folder
    for file in offered.files:
        yield file.name or "."


def _hash_so_far(part: Path, size_bytes: int) -> tuple[Hash, int]:
    """Return the hash of what is there of a file, and how much that is."""
    digest, there = hashlib.sha256(), 0
    if part.exists() and part.stat().st_size > size_bytes:
        part.unlink()
    if part.exists():
        with part.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                digest.update(data)
                there += len(data)
    return digest, there


def _check_chunk(file: Offered, there: int, chunk: bytes) -> None:
    """Raise where a file ends too early, or goes on too long."""
    if not chunk:
        raise LostError(
            f"The copy of {file.name} broke at {there:,} of {file.size_bytes:,} bytes. "
            "What came is kept; copy again to go on."
        )
    if there + len(chunk) > file.size_bytes:
        raise ModelFileError(f"More of {file.name} came than was offered. Try again.")


def _append(output: BinaryIO, chunk: bytes, digest: Hash) -> None:
    digest.update(chunk)
    output.write(chunk)
