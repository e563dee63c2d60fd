"""What reading the model files of a node led to: each is read once, in a child process.

A finding is kept by path, size and time of change, so that a restart and a rescan are cheap.

How the node would hold a model, its plan, is a part of it. It is decided with what would be free if
no model were in memory, and decided anew when that changed enough to matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import ModelFileError, PotluckError
from potluck_proto.kept import KeptFile
from potluck_worker import questions
from potluck_worker.engines.base import Failure, failure_of
from potluck_worker.engines.fake import FAKE_SUFFIX
from potluck_worker.engines.inspection import Inspection
from potluck_worker.engines.sizing import Described, Plan, Question, Room
from potluck_worker.engines.vllm.checkpoint import is_checkpoint
from potluck_worker.installed import Engines
from potluck_worker.places import FileStamp, Place
from potluck_worker.settings import WorkerSettings
from potluck_worker.stored_model import names_of

REPLAN_BYTES = 512 * 2**20
"""How much more memory there must be before a plan that settled for less is made anew."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What inspecting a file led to: a failure, or the other two."""

    stamp: FileStamp
    inspection: Inspection | None = None
    plan: Plan | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the file has."""

    asked: list[object]
    """What findings depend on beside the model's file and the memory."""
    findings: dict[str, Finding]
    """By path."""


class Findings:
    """What was found in the model files of one node.

    Args:
        file: Where it is kept between runs.
        settings: How models are held.
        engines: What is installed here.
        room: Returns what a model may take where no other is in memory.
    """

    def __init__(
        self,
        file: Path,
        settings: WorkerSettings,
        engines: Engines,
        room: Callable[[], Room],
    ) -> None:
        self._file = KeptFile(file, _Kept, "inspections")
        self._settings = settings
        self._engines = engines
        self._room = room
        self._asked: list[object] = [settings.how_models_are_held(), engines.llama.version]
        kept = self._file.read()
        self._known = kept.findings if kept and kept.asked == self._asked else {}
        self._written = dict(self._known)
        self._doubted: set[str] = set()

    def of(self, place: Place) -> Finding | None:
        """Return what was found at a place, if it was read."""
        return self._known.get(str(place.path))

    def is_due(self, place: Place) -> bool:
        """Say whether a place is to be read: it is new, has changed, or its plan is outdated."""
        known = self.of(place)
        return known is None or known.stamp != place.stamp or self._is_outdated(place.path, known)

    def _is_outdated(self, path: Path, known: Finding) -> bool:
        """Say whether the memory changed so much that a plan is to be made anew.

        Twice in a row, since a model that is just being unloaded is nobody's for a moment.
        """
        room = self._engines.within_reach(engine_of(path), self._room())
        outdated = known.plan is not None and _outgrown(known.plan, room)
        confirmed = outdated and str(path) in self._doubted
        self._doubted.discard(str(path))
        if outdated and not confirmed:
            self._doubted.add(str(path))
        return confirmed

    async def read(self, place: Place) -> None:
        """Read what is at a place, in a child process, which may die of it."""
        self._known[str(place.path)] = await self._inspect(place)

    async def _inspect(self, place: Place) -> Finding:
        path, stamp, engine = place.path, place.stamp, engine_of(place.path)
        if place.borrowed and place.borrowed.problem:
            return Finding(stamp, failure=failure_of(ModelFileError(place.borrowed.problem)))
        wanted = self._settings.wanted(*names_of(place.stem), engine)
        room = self._engines.within_reach(engine, self._room())
        question = Question(str(path), wanted.options, room, shorten=wanted.shorten)
        try:
            found = await questions.ask("describe", Described, question)
        except PotluckError as error:
            return Finding(stamp, failure=failure_of(error))
        return Finding(stamp, inspection=found.inspection, plan=found.plan)

    def forget_others(self, places: Iterable[Place]) -> None:
        """Forget what is not at one of the places."""
        there = {str(place.path) for place in places}
        self._known = {path: known for path, known in self._known.items() if path in there}

    def save(self) -> None:
        """Write the file, if there is news. Raises `OSError`."""
        if self._known != self._written:
            self._file.write(_Kept(self._asked, self._known))
            self._written = dict(self._known)


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


def engine_of(path: Path) -> str:
    """Return the engine that runs a model."""
    if path.name.endswith(FAKE_SUFFIX):
        return "fake"
    return "vllm" if is_checkpoint(path) else "llama"
