"""The model store: which model files this node has, and what each says of itself.

GGUF files, and checkpoints in safetensors, each a folder, are found in the home's `models` folder,
at the paths of the settings and those that were added, in the package (the starter model), and
where other programs keep theirs (`places.py`). A model is read in a child process, once: the result
is kept by path, size and time of change, so that a restart and a rescan are cheap. What cannot be
used is listed with the reason rather than hidden.

How the node would hold a model, its plan, is decided with what would be free if no model were in
memory, and decided anew when that changed enough to matter. A load that needs nothing else takes
what the plan says or is refused: it never takes less context than the node described.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from potluck_proto.errors import (
    AmbiguousModel,
    BadRequest,
    ModelFileError,
    PotluckError,
    UnknownModel,
)
from potluck_proto.home import Home
from potluck_worker import questions
from potluck_worker.engines.base import Failure, error_of, failure_of
from potluck_worker.engines.fake import FAKE_SUFFIX
from potluck_worker.engines.inspection import Inspection
from potluck_worker.engines.sizing import Described, Plan, Question, Room
from potluck_worker.engines.vllm.adapters import is_adapter
from potluck_worker.engines.vllm.checkpoint import WEIGHTS_SUFFIX, is_checkpoint
from potluck_worker.installed import Engines
from potluck_worker.library.added import AddedPaths
from potluck_worker.library.caches import GGUF_SUFFIX, Borrowed
from potluck_worker.library.templates import Templates
from potluck_worker.measurements import Measurements
from potluck_worker.places import FileStamp, Place, find_models, stem_of
from potluck_worker.settings import WorkerSettings
from potluck_worker.splits import parts_of

log = logging.getLogger(__name__)

PACKAGED = Path(__file__).parent / "models"
"""Holds the starter model."""

REPLAN_BYTES = 512 * 2**20
"""How much more memory there must be before a plan that settled for less is made anew."""

Key = tuple[str, str]
"""Name and quantization."""

_QUANTIZATION = re.compile(r"[-._]((?:I?Q\d|BF16|F16|F32)\w*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """What inspecting a file led to: a failure, or the other two."""

    stamp: FileStamp
    inspection: Inspection | None = None
    plan: Plan | None = None
    failure: Failure | None = None


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


_FINDINGS: TypeAdapter[dict[str, Finding]] = TypeAdapter(dict[str, Finding])


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store keeps between runs."""

    added: AddedPaths
    """Further files and folders, beside those of the settings."""
    templates: Templates
    """Prompt formats that were chosen for models."""
    findings: Path

    @classmethod
    def of(cls, home: Home) -> Kept:
        """Return what is kept in a home."""
        return cls(
            AddedPaths(home.added_models_file),
            Templates(home.templates_file),
            home.root / "inspections.json",
        )


class ModelStore:
    """The model files of one node.

    Args:
        folder: The home's models folder.
        kept: What is known from earlier runs.
        settings: Where else models are, and how they are held.
        measurements: What models took before.
        engines: What is installed here.
        room: Returns what a model may take where no other is in memory.
        changed: Called when the list changed.
    """

    def __init__(
        self,
        folder: Path,
        kept: Kept,
        *,
        settings: WorkerSettings,
        measurements: Measurements,
        engines: Engines,
        room: Callable[[], Room],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._settled = [folder, *settings.model_paths, PACKAGED]
        self.added = kept.added
        self._cache = kept.findings
        self._settings = settings
        self._templates = kept.templates
        self._measurements = measurements
        self._engines = engines
        self._room = room
        self._changed = changed
        self._scanning = asyncio.Lock()
        self._findings = self._written = self._read_cache()
        self._doubted: set[str] = set()
        self.models: tuple[StoredModel, ...] = ()

    @property
    def _places(self) -> list[Path]:
        return [*self._settled, *self.added.paths]

    def sees(self, path: Path) -> bool:
        """Say whether what is at a path is looked for already."""
        return any(place in (path, path.parent) for place in self._places)

    async def scan(self, *, caches: bool = True) -> None:
        """Look for files; inspect those that are new or changed, one at a time.

        Args:
            caches: Whether to look for models of other programs too, where the settings want it.
        """
        async with self._scanning:
            wanted = caches and self._settings.use_caches
            found = await asyncio.to_thread(find_models, self._places, caches=wanted)
            kept = {} if caches else self._findings
            for place in found:
                key, known = str(place.path), self._findings.get(str(place.path))
                if known is None or known.stamp != place.stamp or self._is_outdated(key, known):
                    log.info("inspecting %s", place.path.name)
                    self._findings = self._findings | {key: await self._inspect(place)}
                    self._list(found)
            fresh = {key: self._findings[key] for place in found if (key := str(place.path))}
            self._findings = kept | fresh
            await asyncio.to_thread(self._write_cache)
            self._list(found)

    async def take_in(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Move files of whole models here; nobody sees a model of which a part is missing.

        Args:
            moves: From where to where, on one disk.
        """
        async with self._scanning:
            for source, target in moves:
                await asyncio.to_thread(source.replace, target)
        await self.scan()

    def _list(self, found: Sequence[Place]) -> None:
        """List what was found, as far as it was inspected."""
        models = [
            self._stored(place, finding)
            for place in found
            if (finding := self._findings.get(str(place.path))) is not None
        ]
        models = _told_apart(models)
        models += [_missing(path, _OF_SETTINGS) for path in self._settled if not path.exists()]
        models += [_missing(path, _ADDED) for path in self.added.paths if not path.exists()]
        models.sort(key=lambda model: (model.starter, model.name.lower(), model.quantization))
        if [_identity(m) for m in models] != [_identity(m) for m in self.models]:
            self.models = tuple(models)
            self._changed()

    def _is_outdated(self, path: str, known: Finding) -> bool:
        """Say whether the memory changed so much that a plan is to be made anew.

        Twice in a row, since a model that is just being unloaded is nobody's for a moment.
        """
        room = self._engines.within_reach(_engine_of(Path(path)), self._room())
        outdated = known.plan is not None and _outgrown(known.plan, room)
        confirmed = outdated and path in self._doubted
        self._doubted.discard(path)
        if outdated and not confirmed:
            self._doubted.add(path)
        return confirmed

    async def find(self, name: str, quantization: str, room: Room) -> StoredModel:
        """Return the model that a reference means, looking for new files if none does.

        Without a quantization it is the one with the most bits per weight that fits.

        Args:
            name: As typed, without the quantization.
            quantization: As typed; may be empty.
            room: What a model may take.

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
        fitting = [model for model in usable if model.plan and room.holds(model.plan.estimate)]
        best = max(fitting, key=_bits, default=min(usable, key=_bits))
        twins = [m for m in usable if (m.name, m.quantization) == (best.name, best.quantization)]
        if len(twins) > 1:
            places = ", ".join(str(model.path) for model in twins)
            raise AmbiguousModel(f"{name!r} is several files: {places}. Remove or rename one.")
        return best

    async def look_up(self, name: str, quantization: str) -> StoredModel:
        """Return a model to look at, usable or not, the one with the most bits per weight.

        Raises:
            UnknownModel: No file answers to the name.
        """
        if not self._matches(name, quantization):
            await self.scan()
        matches = self._matches(name, quantization)
        if not matches:
            raise UnknownModel(f"This node has no model {name!r}.", model=name)
        return max(matches, key=lambda model: (model.problem is None, _bits(model)))

    async def choose_template(
        self, name: str, quantization: str, template: str
    ) -> list[StoredModel]:
        """Give a model a prompt format, an empty one its own; return it, each quantization.

        Raises:
            UnknownModel: No file answers to the name.
            BadRequest: There is no such format.
        """
        await self.look_up(name, quantization)
        changed = self._matches(name, quantization)
        self._templates.choose([model.path for model in changed], template)
        await self.scan()
        return changed

    def smaller(self, model: StoredModel) -> list[StoredModel]:
        """Return the smaller quantizations of a model that can be used, the best first."""
        found = [
            other
            for other in self.models
            if other.name == model.name
            and other.problem is None
            and other.plan is not None
            and _bits(other) < _bits(model)
        ]
        return sorted(found, key=_bits, reverse=True)

    def adapter(self, model: StoredModel, name: str) -> Path:
        """Return a LoRA adapter for a model by its name: a GGUF file, or for vLLM a folder.

        Raises `BadRequest` where there is none.
        """
        for place in filter(Path.is_dir, self._places):
            for path in (place / name, place / f"{name}{GGUF_SUFFIX}"):
                if path.parent == place and _is_adapter(path, model.engine):
                    return path
        what = "folder" if model.engine == "vllm" else "GGUF file"
        raise BadRequest(
            f"This node has no LoRA adapter {name!r} for {model.name}. Put its {what} into a "
            "models folder."
        )

    def _matches(self, name: str, quantization: str) -> list[StoredModel]:
        matches = [model for model in self.models if model.answers_to(name, quantization)]
        # A file may be called as another model is that was given its name first.
        return [model for model in matches if model.name.lower() == name.lower()] or matches

    async def _inspect(self, place: Place) -> Finding:
        """Read a file in a child process, which may die of it."""
        path, stamp, engine = place.path, place.stamp, _engine_of(place.path)
        if place.borrowed and place.borrowed.problem:
            return Finding(stamp, failure=failure_of(ModelFileError(place.borrowed.problem)))
        wanted = self._settings.wanted(*_names(place.stem), engine)
        room = self._engines.within_reach(engine, self._room())
        question = Question(str(path), wanted.options, room, shorten=wanted.shorten)
        try:
            found = await questions.ask("describe", Described, question)
        except PotluckError as error:
            return Finding(stamp, failure=failure_of(error))
        return Finding(stamp, inspection=found.inspection, plan=found.plan)

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
        if self._findings == self._written:
            return
        self._written = self._findings
        findings = {path: asdict(finding) for path, finding in self._findings.items()}
        draft = self._cache.with_suffix(".new")
        draft.write_text(json.dumps({"asked": self._asked(), "findings": findings}))
        draft.replace(self._cache)

    def _asked(self) -> list[object]:
        """Return what findings depend on beside the file and the memory."""
        return [self._settings.how_models_are_held(), self._engines.llama.version]

    def _stored(self, place: Place, finding: Finding) -> StoredModel:
        model = _stored(place, finding, self._engines)
        wanted = self._settings.wanted(*model.key)
        chosen = self._templates.of(model.path) or wanted.prompt_format
        model = replace(model, prompt_format=chosen)
        if model.plan is None:
            return model
        estimate = self._measurements.corrected(model.file_id, model.plan.estimate)
        return replace(model, plan=replace(model.plan, estimate=estimate))


def _outgrown(plan: Plan, room: Room) -> bool:
    """Say whether a plan no longer fits, or settled for less than would fit now."""
    fitted = plan.room.holds(plan.estimate)
    if fitted and not room.holds(plan.estimate):
        return True
    settled = bool(plan.note) or not fitted
    return settled and any(
        free_bytes > plan.room.free_bytes.get(device_id, 0) + REPLAN_BYTES
        for device_id, free_bytes in room.free_bytes.items()
    )


def _is_adapter(path: Path, engine: str) -> bool:
    if engine == "vllm":
        return is_adapter(path)
    return path.suffix == GGUF_SUFFIX and path.is_file()


def _engine_of(path: Path) -> str:
    """Return the engine that runs a model."""
    if path.name.endswith(FAKE_SUFFIX):
        return "fake"
    return "vllm" if is_checkpoint(path) else "llama"


def _names(name: str, inspection: Inspection | None = None) -> tuple[str, str]:
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


def _stored(place: Place, finding: Finding, engines: Engines) -> StoredModel:
    name, quantization = _names(place.stem, finding.inspection)
    failure, engine = finding.failure, _engine_of(place.path)
    problem = error_of(failure) if failure else None
    if problem is None and finding.inspection is not None:
        problem = engines.problem(engine, name, finding.inspection)
    return StoredModel(
        path=place.path,
        name=name,
        quantization=quantization,
        engine=engine,
        stamp=finding.stamp,
        inspection=finding.inspection,
        plan=finding.plan,
        problem=problem,
        borrowed=place.borrowed,
    )


def _told_apart(models: Sequence[StoredModel]) -> list[StoredModel]:
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


_OF_SETTINGS = "{path} of the setting worker.model_paths does not exist."
_ADDED = "{path} was added and does not exist any more. `potluck rm {name}` forgets it."


def _missing(path: Path, words: str) -> StoredModel:
    problem = ModelFileError(words.format(path=path, name=stem_of(path)))
    return StoredModel(path, stem_of(path), "", "", FileStamp(0, 0), None, None, problem)


def _bits(model: StoredModel) -> float:
    return model.inspection.bits_per_weight if model.inspection else 0.0


def _identity(model: StoredModel) -> tuple[object, ...]:
    """Return what makes two lists of models differ; errors do not compare by themselves."""
    problem = model.problem and model.problem.message
    said = model.prompt_format, problem
    return (model.path, model.stamp, model.inspection, model.plan, *said)
