"""The model store: which models this node has, and which of them a reference means.

GGUF files, and checkpoints in safetensors, each a folder, are found in the home's `models` folder,
at the paths of the settings and those that were added, in the package (the starter model), and
where other programs keep theirs (`places.py`). Each is read once (`findings.py`). What cannot be
used is listed with the reason rather than hidden.

A load that needs nothing else takes what the plan of a model says or is refused: it never takes
less context than the node described.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from potluck_proto.errors import AmbiguousModel, BadRequest, ModelFileError, UnknownModel
from potluck_proto.home import Home
from potluck_worker.engines.base import error_of
from potluck_worker.engines.sizing import Room
from potluck_worker.engines.vllm.adapters import is_adapter
from potluck_worker.findings import Finding, Findings, engine_of
from potluck_worker.installed import Engines
from potluck_worker.library.added import AddedPaths
from potluck_worker.library.caches import GGUF_SUFFIX
from potluck_worker.library.templates import Templates
from potluck_worker.measurements import Measurements
from potluck_worker.places import FileStamp, Place, find_models, stem_of
from potluck_worker.settings import WorkerSettings
from potluck_worker.stored_model import PACKAGED, StoredModel, names_of, told_apart

log = logging.getLogger(__name__)

_quality = attrgetter("bits_per_weight")


class ModelStore:
    """The model files of one node.

    Args:
        home: Has models, and what is known from earlier runs.
        settings: Where else models are, and how they are held.
        measurements: What models took before.
        engines: What is installed here.
        room: Returns what a model may take where no other is in memory.
        changed: Called when the list changed.
    """

    def __init__(
        self,
        home: Home,
        *,
        settings: WorkerSettings,
        measurements: Measurements,
        engines: Engines,
        room: Callable[[], Room],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._settled = [home.models, *settings.model_paths, PACKAGED]
        self.added = AddedPaths(home.added_models_file)
        self._settings = settings
        self._templates = Templates(home.templates_file)
        self._measurements = measurements
        self._engines = engines
        self._changed = changed
        self._scanning = asyncio.Lock()
        self._findings = Findings(home.root / "inspections.json", settings, engines, room)
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
            places = await asyncio.to_thread(find_models, self._places, caches=wanted)
            for place in filter(self._findings.is_due, places):
                log.info("inspecting %s", place.path.name)
                await self._findings.read(place)
                self._list(places)
            if caches:
                self._findings.forget_others(places)
            await asyncio.to_thread(self._findings.save)
            self._list(places)

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
            if (finding := self._findings.of(place)) is not None
        ]
        models = told_apart(models)
        models += [_missing(path, _OF_SETTINGS) for path in self._settled if not path.exists()]
        models += [_missing(path, _ADDED) for path in self.added.paths if not path.exists()]
        models.sort(key=lambda model: (model.starter, model.name.lower(), model.quantization))
        if [_identity(m) for m in models] != [_identity(m) for m in self.models]:
            self.models = tuple(models)
            self._changed()

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
        matches = await self._called(name, quantization)
        usable = [model for model in matches if model.problem is None]
        if not usable:
            assert matches[0].problem is not None
            raise matches[0].problem
        fitting = [model for model in usable if model.plan and room.holds(model.plan.estimate)]
        best = max(fitting, key=_quality, default=min(usable, key=_quality))
        twins = [model for model in usable if model.key == best.key]
        if len(twins) > 1:
            places = ", ".join(str(model.path) for model in twins)
            raise AmbiguousModel(f"{name!r} is several files: {places}. Remove or rename one.")
        return best

    async def look_up(self, name: str, quantization: str) -> StoredModel:
        """Return a model to look at, usable or not, the one with the most bits per weight.

        Raises:
            UnknownModel: No file answers to the name.
        """
        matches = await self._called(name, quantization)
        return max(matches, key=lambda model: (model.problem is None, model.bits_per_weight))

    async def choose_template(
        self, name: str, quantization: str, template: str
    ) -> list[StoredModel]:
        """Give a model a prompt format, an empty one its own; return it, each quantization.

        Raises:
            UnknownModel: No file answers to the name.
            BadRequest: There is no such format.
        """
        changed = await self._called(name, quantization)
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
            and other.bits_per_weight < model.bits_per_weight
        ]
        return sorted(found, key=_quality, reverse=True)

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

    async def _called(self, name: str, quantization: str) -> list[StoredModel]:
        """Return the models that a reference means, looking for new files if none does.

        Raises `UnknownModel`: no file answers to the name.
        """
        if not self._matches(name, quantization):
            await self.scan()
        if matches := self._matches(name, quantization):
            return matches
        raise UnknownModel(f"This node has no model {name!r}.", model=name)

    def _matches(self, name: str, quantization: str) -> list[StoredModel]:
        matches = [model for model in self.models if model.answers_to(name, quantization)]
        # A file may be called as another model is that was given its name first.
        return [model for model in matches if model.name.lower() == name.lower()] or matches

    def _stored(self, place: Place, finding: Finding) -> StoredModel:
        """Return the model at a place, with what it took before and what was chosen for it."""
        engine, plan = engine_of(place.path), finding.plan
        name, quantization = names_of(place.stem, finding.inspection)
        problem = error_of(finding.failure) if finding.failure else None
        if problem is None and finding.inspection is not None:
            problem = self._engines.problem(engine, name, finding.inspection)
        wanted = self._settings.wanted(name, quantization)
        model = StoredModel(
            path=place.path,
            name=name,
            quantization=quantization,
            engine=engine,
            stamp=finding.stamp,
            inspection=finding.inspection,
            plan=plan,
            problem=problem,
            borrowed=place.borrowed,
            prompt_format=self._templates.of(place.path) or wanted.prompt_format,
        )
        if plan is None:
            return model
        estimate = self._measurements.corrected(model.file_id, plan.estimate)
        return replace(model, plan=replace(plan, estimate=estimate))


def _is_adapter(path: Path, engine: str) -> bool:
    if engine == "vllm":
        return is_adapter(path)
    return path.suffix == GGUF_SUFFIX and path.is_file()


_OF_SETTINGS = "{path} of the setting worker.model_paths does not exist."
_ADDED = "{path} was added and does not exist any more. `potluck rm {name}` forgets it."


def _missing(path: Path, words: str) -> StoredModel:
    problem = ModelFileError(words.format(path=path, name=stem_of(path)))
    return StoredModel(path, stem_of(path), "", "", FileStamp(0, 0), None, None, problem)


def _identity(model: StoredModel) -> tuple[object, ...]:
    """Return what makes two lists of models differ; errors do not compare by themselves."""
    problem = model.problem and model.problem.message
    said = model.prompt_format, problem
    return (model.path, model.stamp, model.inspection, model.plan, *said)
