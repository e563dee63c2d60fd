"""A model store without a daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from potluck_proto.home import Home
from potluck_worker.engines.sizing import HOST, Room
from potluck_worker.installed import Engines
from potluck_worker.measurements import Measurements
from potluck_worker.models import ModelStore
from potluck_worker.settings import WorkerSettings

MANY = Room({HOST: 2**60})


def store(
    folder: Path,
    *paths: Path,
    room: Callable[[], Room] = lambda: MANY,
    settings: WorkerSettings | None = None,
) -> ModelStore:
    """Return a store over the models folder of a home."""
    home = Home(folder.parent)
    assert folder == home.models
    settings = settings or WorkerSettings(context_length=256, slots=1)
    return ModelStore(
        home,
        settings=settings.model_copy(update={"model_paths": list(paths)}),
        measurements=Measurements(home.root / "measurements.json", "1"),
        engines=Engines(),
        room=room,
    )
