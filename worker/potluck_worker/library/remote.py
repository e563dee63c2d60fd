"""What the hub has, as plain data: repositories, their files, and what can be fetched of them."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from potluck_proto.errors import BadRequest, HubUnreachable, ModelFileError, NotEnoughMemory
from potluck_proto.plain import plain
from potluck_worker.engines.inspection import LicenceWords
from potluck_worker.engines.vllm.checkpoint import CONFIG, PICKLE_SUFFIXES, WEIGHTS_SUFFIX
from potluck_worker.splits import parts_of, whole_name

GIB = 2**30

Format = Literal["gguf", "safetensors"]

SAFETENSORS: Format = "safetensors"
"""What a checkpoint is called where a quantization would stand."""

_QUANTIZATION = re.compile(
    r"[-._]((?:I?Q\d|TQ\d|BF16|F16|F32|FP16|MXFP4|NVFP4)[\w]*)$", re.IGNORECASE
)
_NO_MODEL = re.compile(r"(^|[-_.])(mmproj|imatrix)", re.IGNORECASE)
_BESIDE_WEIGHTS = (".json", ".txt", ".jinja", ".model")
_WIDE = ("F32", "F16", "BF16", "FP16")
"""Schemes that are larger than any use of them at home deserves: Q8_0 is as good."""

_OF_A_CLOCK = re.compile("certificate (is not yet valid|has expired)")
"""What TLS says of the hub where it is this machine that has the wrong day."""

MEMORY_SHARE = 1.1
MEMORY_MORE_BYTES = GIB // 2
"""What a model takes, by its files alone: a cache and buffers beside its weights."""

USUAL_BITS = 4.9
"""For each weight, of what most repositories have and most people fetch: Q4_K_M."""


NO_LICENCE = LicenceWords()


def probable_memory_bytes(weights_bytes: int) -> int:
    """Return what a model takes in memory, by the size of its weights alone."""
    return int(weights_bytes * MEMORY_SHARE) + MEMORY_MORE_BYTES


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    """With the folders that it is in."""
    size_bytes: int
    sha256: str = ""
    """Of a file in large storage."""
    git_sha1: str = ""
    """Of another: over a header of git and the content."""

    @property
    def local_name(self) -> str:
        """What it is called here, without folders."""
        return PurePosixPath(self.name).name


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of models."""

    name: str
    revision: str = ""
    parameter_count: int = 0
    downloads: int = 0
    likes: int = 0
    gated: bool = False
    licence: LicenceWords = NO_LICENCE
    base_models: Sequence[str] = ()
    format: Format = "gguf"
    architecture: str = ""
    training_context_length: int = 0
    files: Sequence[RemoteFile] = ()

    @property
    def usual_memory_bytes(self) -> int:
        """What it takes at `USUAL_BITS`; 0 where its parameters are not known."""
        weights_bytes = int(self.parameter_count * USUAL_BITS / 8)
        return probable_memory_bytes(weights_bytes) if weights_bytes else 0


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of a repository, in all its files."""

    name: str
    """A quantization, or the file's name where that says none."""
    format: Format
    folder: str
    """The folder that its files go to, for a checkpoint; else empty."""
    files: Sequence[RemoteFile]

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def probable_memory_bytes(self) -> int:
        """What it takes in memory, by its size alone."""
        return probable_memory_bytes(self.size_bytes)

    @property
    def is_wide(self) -> bool:
        """Whether its weights are not quantized."""
        return self.name.upper() in _WIDE or self.format == SAFETENSORS


def unreachable(what: str, reason: str) -> HubUnreachable:
    """Return what to say where the hub gave no answer on something, in one place."""
    mirror = os.environ.get("HF_ENDPOINT")
    advice = (
        "Check the network of this machine, and HF_ENDPOINT and HTTPS_PROXY where they are set."
    )
    if _OF_A_CLOCK.search(reason):
        now = datetime.datetime.now(tz=datetime.UTC)
        advice = f"Check the clock of this machine: it says {now:%d %B %Y, %H:%M} UTC."
    return HubUnreachable(
        f"The hub{f' at {mirror}' if mirror else ''} cannot be reached for {what}: "
        f"{plain(reason)}. {advice} What is on the pool's machines goes on working."
    )


def check_repository(name: str) -> None:
    """Raise `BadRequest` for what cannot be the name of a repository."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) or ".." in name:
        raise BadRequest(f"{name!r} is no repository; one is MAKER/NAME, such as Qwen/Qwen3-8B.")


def variants(repository: Repository) -> list[Variant]:
    """Return what can be fetched, the largest first.

    Raises:
        ModelFileError: There is nothing that may be loaded: no weights, or pickles.
    """
    files = [file for file in repository.files if _is_plain(file.name)]
    found = [*_ggufs(files), *_checkpoint(repository, files)]
    if not found:
        raise ModelFileError(_nothing(repository.name, files))
    return sorted(found, key=lambda variant: -variant.size_bytes)


def quantizations(repository: Repository) -> list[str]:
    """Return in what a repository's GGUF files come; their sizes need not be known."""
    files = [file for file in repository.files if _is_plain(file.name)]
    return list(dict.fromkeys(variant.name for variant in _ggufs(files)))


def is_present(variant: Variant, models: Path) -> bool:
    """Say whether a variant is among the models of a folder, by names and sizes."""
    folder = models / variant.folder

    def size(file: RemoteFile) -> int:
        path = folder / file.local_name
        return path.stat().st_size if path.is_file() else -1

    return all(size(file) == file.size_bytes for file in variant.files)


def choose(
    repository: str, found: Sequence[Variant], wanted: str, room_bytes: int | None
) -> Variant:
    """Return the variant that is meant.

    Args:
        repository: Its name, for messages.
        found: From `variants`.
        wanted: A quantization or a file; empty is the best that probably fits, wider than Q8_0
            only where there is nothing else.
        room_bytes: What a model may take in memory; `None` where that is not known.

    Raises:
        BadRequest: There is none of that name.
        NotEnoughMemory: None fits, and none was named.
    """
    there = ", ".join(variant.name for variant in found)
    if wanted:
        for variant in found:
            names = {variant.name, *(n for f in variant.files for n in (f.name, f.local_name))}
            if wanted.lower() in {name.lower() for name in names}:
                return variant
        raise BadRequest(f"{repository} has no {wanted!r}. It has: {there}.")
    narrow = [variant for variant in found if not variant.is_wide] or list(found)
    for variant in narrow:
        if room_bytes is None or variant.probable_memory_bytes <= room_bytes:
            return variant
    smallest = narrow[-1]
    raise NotEnoughMemory(
        f"None of {repository} fits: the smallest, {smallest.name}, takes about "
        f"{smallest.probable_memory_bytes / GIB:.1f} GiB, and {(room_bytes or 0) / GIB:.1f} are "
        f"free here. Fetch it all the same with {repository}:{smallest.name}, or choose a smaller "
        "model."
    )


def _ggufs(files: Sequence[RemoteFile]) -> Iterator[Variant]:
    by_name = {file.name: file for file in files}
    taken: set[str] = set()
    for file in files:
        path = Path(file.name)
        if path.suffix != ".gguf" or _NO_MODEL.search(path.name) or file.name in taken:
            continue
        parts = [part.as_posix() for part in parts_of(path)]
        taken.update(parts)
        if all(part in by_name for part in parts):
            stem = Path(whole_name(path)).stem
            match = _QUANTIZATION.search(stem)
            name = match[1].upper() if match else stem
            yield Variant(name, "gguf", "", [by_name[part] for part in parts])


def _checkpoint(repository: Repository, files: Sequence[RemoteFile]) -> Iterator[Variant]:
    """Yield the checkpoint at the top of a repository, if there is one."""
    top = [file for file in files if "/" not in file.name]
    weights = [file for file in top if file.name.endswith(WEIGHTS_SUFFIX)]
    # Some have the same weights twice, in their maker's own layout.
    weights = [file for file in weights if file.name.startswith("model")] or weights
    if not weights or CONFIG not in {file.name for file in top}:
        return
    beside = [f for f in top if f.name.endswith(_BESIDE_WEIGHTS) or f.name == "README.md"]
    folder = repository.name.rpartition("/")[2]
    yield Variant(SAFETENSORS, SAFETENSORS, folder, [*beside, *weights])


def _nothing(name: str, files: Iterable[RemoteFile]) -> str:
    pickles = [file.name for file in files if file.name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        return (
            f"{name} has its weights as pickle ({pickles[0]}), which can run program code when it "
            "is read, and is never fetched. Look for a repository of the model with GGUF or "
            "safetensors."
        )
    return f"{name} has no weights as GGUF or safetensors. Choose another repository."


def _is_plain(name: str) -> bool:
    """Say whether a name is one below the repository, without tricks."""
    path = PurePosixPath(name)
    odd = path.is_absolute() or ".." in path.parts or "\\" in name
    return not odd and name.isprintable() and not path.name.startswith(".")
