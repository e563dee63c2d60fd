"""Whether a model would fit here, and what would: asked from the engine, in a child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from potluck_worker import questions
from potluck_worker.engines.sizing import AS_PLANNED, Estimate, Fit, Options, Plan, Question, Room
from potluck_worker.installed import Engines
from potluck_worker.measurements import Measurements
from potluck_worker.models import ModelStore
from potluck_worker.pool import MemoryPool
from potluck_worker.questions import Answer
from potluck_worker.settings import WorkerSettings
from potluck_worker.stored_model import StoredModel


@dataclass(frozen=True, slots=True)
class Way:
    """A file, held in one way."""

    model: StoredModel
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model fits in one way, and what would."""

    asked: Way
    fits: bool
    room: Room
    """What was free for it."""
    largest_context_length: int
    """All else as asked; 0 where none fits."""
    instead: Sequence[Way]
    """Where it does not fit: what does, best first."""
    measured: bool
    """Whether the estimate was corrected by what the same took before."""
    note: str
    """What is less than the settings say."""


class Fitter:
    """Asks what models would take.

    Args:
        settings: How models are held where nobody says it.
        store: The models.
        pool: What is free.
        measurements: What models took before.
        engines: What is installed here.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        store: ModelStore,
        pool: MemoryPool,
        measurements: Measurements,
        engines: Engines,
    ) -> None:
        self._settings = settings
        self._store = store
        self._pool = pool
        self._measurements = measurements
        self._engines = engines

    async def estimate(self, model: StoredModel, asked: Options) -> Estimate:
        """Return how a model would be loaded when it is asked for like this, and what it takes.

        What is not asked for is as the node plans it, and changes where it must so that it fits.

        Raises `PotluckError`.
        """
        assert model.plan is not None
        if asked == AS_PLANNED:
            return model.plan.estimate
        room = self._room(model)
        wanted = self._settings.wanted(*model.key, model.engine)
        shorten = asked.context_length is None and wanted.shorten
        plan = await self._ask("plan", Plan, model, asked, room, shorten=shorten)
        return self._corrected(model, plan.estimate)

    async def fit(self, model: StoredModel, asked: Options) -> Verdict:
        """Say whether a model fits, and what would. Raises `PotluckError`.

        Where nothing is asked for, it is held as the node would hold it by itself.
        """
        assert model.plan is not None
        note = ""
        if asked == AS_PLANNED and (note := model.plan.note):
            asked = _lessened(model.plan.estimate)
        room = self._room(model)
        found = await self._ask("fit", Fit, model, asked, room)
        estimate = self._corrected(model, found.asked)
        fits = room.holds(estimate)
        largest = found.largest.options.context_length if found.largest else 0
        context_length = estimate.options.context_length or 0
        instead = [] if fits else await self._instead(model, asked, room, found)
        return Verdict(
            asked=Way(model, estimate),
            fits=fits,
            room=room,
            largest_context_length=max(largest or 0, context_length if fits else 0),
            instead=instead,
            measured=estimate != found.asked,
            note=note,
        )

    async def _instead(
        self, model: StoredModel, asked: Options, room: Room, found: Fit
    ) -> list[Way]:
        """Return what fits: first what keeps the context and the cards, then the others."""
        ways = [Way(model, estimate) for estimate in found.instead]
        kept = [way for way in ways if _keeps(way.estimate.options, found.asked.options)]
        rest = [way for way in ways if way not in kept]
        same = replace(asked, gpu_layers=found.asked.options.gpu_layers)
        return [*kept, *await self._smaller(model, same, room), *rest]

    async def _smaller(self, model: StoredModel, asked: Options, room: Room) -> list[Way]:
        """Return the best smaller quantization that fits as asked, if any does."""
        for other in self._store.smaller(model):
            plan = await self._ask("plan", Plan, other, asked, room)
            estimate = self._corrected(other, plan.estimate)
            if room.holds(estimate):
                return [Way(other, estimate)]
        return []

    async def _ask(
        self,
        verb: str,
        kind: type[Answer],
        model: StoredModel,
        asked: Options,
        room: Room,
        *,
        shorten: bool = False,
    ) -> Answer:
        wanted = self._settings.wanted(*model.key, model.engine).options
        assert model.inspection is not None
        longest = model.inspection.training_context_length
        defaults = replace(wanted, context_length=min(wanted.context_length or 0, longest))
        question = Question(str(model.path), asked.over(defaults), room, shorten)
        return await questions.ask(verb, kind, question)

    def _room(self, model: StoredModel) -> Room:
        """Return what a model may take, were it not in memory."""
        return self._engines.within_reach(model.engine, self._pool.room(without=model.key))

    def _corrected(self, model: StoredModel, estimate: Estimate) -> Estimate:
        return self._measurements.corrected(model.file_id, estimate)


def _lessened(estimate: Estimate) -> Options:
    """Return what a plan may have made less than the settings say."""
    options = estimate.options
    return Options(
        context_length=options.context_length,
        gpu_layers=options.gpu_layers if estimate.layers else None,
        host_experts=options.host_experts,
    )


def _keeps(options: Options, asked: Options) -> bool:
    return (options.context_length, options.gpu_layers) == (asked.context_length, asked.gpu_layers)
