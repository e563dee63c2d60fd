"""The model store: which model files this node has, and what each says of itself.

Files are found in the home's `models` folder, in the paths of the settings, and in the package (the
starter model). A file is read in a child process, once: the result is kept by path, size and time
of change, so that a restart and a rescan are cheap. A file that cannot be used is listed with the
reason rather than hidden.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from potluck_proto.errors import (
    AmbiguousModel,
    ModelFileError,
    PotluckError,
    UnknownModel,
)
from potluck_worker.engines.base import Failure, Inspection, error_of
from potluck_worker.engines.fake import FAKE_SUFFIX
from potluck_worker.hardware import llama_availability
from potluck_worker.splits import parts_of, whole_name

log = logging.getLogger(__name__)

PACKAGED = Path(__file__).parent / "models"
"""Holds the starter model."""

GGUF_SUFFIX = ".gguf"
INSPECTION_SECONDS = 60.0
"""A file that takes longer to read is refused."""

_QUANTIZATION = re.compile(r"[-._]((?:I?Q\d|BF16|F16|F32)\w*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What changes when a file does."""

    size_bytes: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What inspecting a file led to: exactly one of the two is set."""

    stamp: FileStamp
    inspection: Inspection | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model file of this node."""

    path: Path
    name: str
    quantization: str
    engine: str
    file_bytes: int
    inspection: Inspection | None
    problem: PotluckError | None

    @property
    def starter(self) -> bool:
        """Whether it is the model that comes with Potluck."""
        return self.path.parent == PACKAGED

    @property
    def memory_needed_bytes(self) -> int:
        """What loading it takes, by the engine's own account; 0 where it cannot be loaded."""
        found = self.inspection
        if found is None:
            return 0
        sizes = (found.weights_bytes, found.kv_cache_bytes, found.compute_bytes)
        return sum(sizes) + found.process_bytes

    def answers_to(self, name: str, quantization: str) -> bool:
        """Say whether a reference means this model; case does not matter."""
        mine = {self.name.lower(), _stem(self.path).lower()}
        return name.lower() in mine and quantization.lower() in ("", self.quantization.lower())


_FINDINGS: TypeAdapter[dict[str, Finding]] = TypeAdapter(dict[str, Finding])


class ModelStore:
    """The model files of one node.

    Args:
        folder: The home's models folder.
        paths: Further files or folders.
        cache: Where findings are kept between runs.
        context_length: Tokens for each conversation that sizes are asked for.
        slots: Conversations at once, likewise.
        changed: Called when the list changed.
    """

    def __init__(
        self,
        folder: Path,
        paths: Sequence[Path],
        cache: Path,
        *,
        context_length: int,
        slots: int,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._places = [folder, *paths, PACKAGED]
        self._cache = cache
        self._context_length = context_length
        self._slots = slots
        self._changed = changed
        self._scanning = asyncio.Lock()
        self._findings = self._read_cache()
        self.models: tuple[StoredModel, ...] = ()

    async def scan(self) -> None:
        """Look for files; inspect those that are new or changed, one at a time."""
        async with self._scanning:
            found = await asyncio.to_thread(_find_files, self._places)
            fresh = {}
            for path, stamp in found.items():
                known = self._findings.get(str(path))
                if known is None or known.stamp != stamp:
                    log.info("inspecting %s", path.name)
                    known = await self._inspect(path, stamp)
                fresh[str(path)] = known
            if fresh != self._findings:
                self._findings = fresh
                await asyncio.to_thread(self._write_cache)
            missing = [path for path in self._places if not path.exists()]
            models = [_stored(Path(path), finding) for path, finding in fresh.items()]
            models += [_missing(path) for path in missing]
            models.sort(key=lambda model: (model.starter, model.name.lower(), model.quantization))
            if [_identity(m) for m in models] != [_identity(m) for m in self.models]:
                self.models = tuple(models)
                self._changed()

    async def find(self, name: str, quantization: str, free_bytes: int) -> StoredModel:
        """Return the model that a reference means, looking for new files if none does.

        Without a quantization it is the one with the most bits per weight that fits.

        Args:
            name: As typed, without the quantization.
            quantization: As typed; may be empty.
            free_bytes: Memory that a model may take.

        Raises:
            UnknownModel: No file answers to the name.
            AmbiguousModel: Files in different folders do.
            PotluckError: The file that does cannot be used.
        """
        matches = self._matches(name, quantization)
        if not matches:
            await self.scan()
            matches = self._matches(name, quantization)
        if not matches:
            raise UnknownModel(f"This node has no model {name!r}.", model=name)
        usable = [model for model in matches if model.problem is None]
        if not usable:
            assert matches[0].problem is not None
            raise matches[0].problem
        fitting = [model for model in usable if model.memory_needed_bytes <= free_bytes]
        best = max(fitting, key=_bits, default=min(usable, key=_bits))
        twins = [m for m in usable if (m.name, m.quantization) == (best.name, best.quantization)]
        if len(twins) > 1:
            places = ", ".join(str(model.path) for model in twins)
            raise AmbiguousModel(f"{name!r} is several files: {places}. Remove or rename one.")
        return best

    def _matches(self, name: str, quantization: str) -> list[StoredModel]:
        return [model for model in self.models if model.answers_to(name, quantization)]

    async def _inspect(self, path: Path, stamp: FileStamp) -> Finding:
        """Read a file in a child process, which may die of it."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "potluck_worker.inspect_host",
            str(path),
            f"--context={self._context_length}",
            f"--slots={self._slots}",
            "--lifeline",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            async with asyncio.timeout(INSPECTION_SECONDS):
                output = await child.stdout.read()
        except TimeoutError:
            return _unreadable(stamp, f"{path.name} could not be read within a minute.")
        finally:
            child.stdin.close()  # the end of this pipe is the end of the child: see `child.py`
            await child.wait()
        try:
            said = json.loads(output)
            if "failure" in said:
                return Finding(stamp, failure=Failure(**said["failure"]))
            return Finding(stamp, inspection=Inspection(**said["inspection"]))
        except (ValueError, TypeError, KeyError):
            return _unreadable(
                stamp, f"{path.name} is damaged: the engine crashed on it. Download it again."
            )

    def _read_cache(self) -> dict[str, Finding]:
        try:
            kept = json.loads(self._cache.read_text())
            if kept["asked"] == self._asked():
                return _FINDINGS.validate_python(kept["findings"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            log.warning("starting without the inspections kept in %s: %s", self._cache, error)
        return {}

    def _write_cache(self) -> None:
        findings = {path: asdict(finding) for path, finding in self._findings.items()}
        draft = self._cache.with_suffix(".new")
        draft.write_text(json.dumps({"asked": self._asked(), "findings": findings}))
        draft.replace(self._cache)

    def _asked(self) -> list[int | str]:
        """Return what findings depend on beside the file."""
        return [self._context_length, self._slots, llama_availability().version]


def _find_files(places: Iterable[Path]) -> dict[Path, FileStamp]:
    """Return the model files at and directly below the places; of a split one, the first part.

    That also where it is missing and others are there, so that somebody hears of it.
    """
    found = {}
    for place in places:
        paths = sorted(place.iterdir()) if place.is_dir() else [place]
        for path in paths:
            if not path.name.endswith((GGUF_SUFFIX, FAKE_SUFFIX)):
                continue
            parts = parts_of(path)
            first = parts[0].absolute()
            if first not in found and (stamp := _stamp(parts)) is not None:
                found[first] = stamp
    return found


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


def _stem(path: Path) -> str:
    """Return a file's name without its ending and part number."""
    return whole_name(path).removesuffix(FAKE_SUFFIX).removesuffix(GGUF_SUFFIX)


def _stored(path: Path, finding: Finding) -> StoredModel:
    inspection = finding.inspection
    name = _stem(path)
    if inspection is not None:
        quantization = inspection.quantization
    else:
        # The file cannot say it, and people will ask for it by the same name.
        match = _QUANTIZATION.search(name)
        quantization = match[1].upper() if match else ""
    if quantization:
        name = re.sub(rf"[-._]{re.escape(quantization)}$", "", name, flags=re.IGNORECASE)
    failure = finding.failure
    problem = None if failure is None else error_of(failure)
    engine = "fake" if path.name.endswith(FAKE_SUFFIX) else "llama"
    return StoredModel(
        path, name, quantization, engine, finding.stamp.size_bytes, inspection, problem
    )


def _missing(path: Path) -> StoredModel:
    problem = ModelFileError(f"{path} of the setting worker.model_paths does not exist.")
    return StoredModel(path, _stem(path), "", "", 0, None, problem)


def _unreadable(stamp: FileStamp, message: str) -> Finding:
    return Finding(stamp, failure=Failure(int(ModelFileError.code), message))


def _bits(model: StoredModel) -> float:
    return model.inspection.bits_per_weight if model.inspection else 0.0


def _identity(model: StoredModel) -> tuple[object, ...]:
    """Return what makes two lists of models differ; errors do not compare by themselves."""
    return (model.path, model.file_bytes, model.inspection, model.problem and model.problem.message)
