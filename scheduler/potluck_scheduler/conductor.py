"""Between the core, which decides, and the tasks that do: events in, instructions out."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path

from potluck_proto.errors import PotluckError
from potluck_proto.ids import GenerationId
from potluck_scheduler.core.events import (
    Dispatch,
    Event,
    Load,
    LoadFailed,
    LoadFinished,
    Queue,
    Refuse,
    TimePassed,
)
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.decisions import Decisions
from potluck_scheduler.loads import load_model
from potluck_scheduler.nodes import NodeRegistry

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
"""How often the core looks again at what waits."""

Order = Dispatch | Queue | Refuse
"""What the core says about one answer."""


class Conductor:
    """Tells the core what happens, and has done what it says.

    Args:
        core: Decides.
        nodes: The workers.
        story_file: Where the core's story goes when it fails, so that it can be replayed.

    Attributes:
        decisions: The last about answers.
    """

    def __init__(self, core: Scheduler, nodes: NodeRegistry, story_file: Path) -> None:
        self.core = core
        self.decisions = Decisions()
        self._nodes = nodes
        self._story_file = story_file
        self._answers: dict[GenerationId, Callable[[Order], None]] = {}
        self._loads: set[asyncio.Task[None]] = set()

    def tell(self, event: Event) -> None:
        """Tell the core what happened, and carry out what it says."""
        try:
            instructions = self.core.handle(event, time.monotonic())
        except Exception:
            log.exception("the core failed; its story is in %s", self._story_file)
            self._story_file.write_bytes(pickle.dumps(self.core.story))
            raise
        for instruction in instructions:
            if isinstance(instruction, Load):
                task = asyncio.create_task(self._load(instruction), name=f"{instruction}")
                self._loads.add(task)
                task.add_done_callback(self._loads.discard)
            elif (take := self._answers.get(instruction.generation_id)) is not None:
                take(instruction)

    def listen(self, generation_id: GenerationId, take: Callable[[Order], None]) -> None:
        """Have what is said about an answer given to `take`, which must not wait."""
        self._answers[generation_id] = take

    def leave(self, generation_id: GenerationId) -> None:
        """Take no more of what is said about an answer."""
        self._answers.pop(generation_id, None)

    async def run(self) -> None:
        """Let time pass for the core while anything waits there."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.core.is_waiting:
                self.tell(TimePassed())

    async def close(self) -> None:
        """Wait for no more loads; the workers finish those that were begun."""
        for task in self._loads:
            task.cancel()
        await asyncio.gather(*self._loads, return_exceptions=True)

    async def _load(self, load: Load) -> None:
        """Load a model, and tell the core how that ended."""
        started = time.monotonic()
        try:
            await load_model(self._nodes, load.node_id, load.key, load.evict)
        except PotluckError as error:
            log.warning("%s was not loaded on %s: %s", load.key, load.node_id, error.message)
            self.tell(LoadFailed(load.node_id, load.key, error))
        else:
            self.tell(LoadFinished(load.node_id, load.key, time.monotonic() - started))
