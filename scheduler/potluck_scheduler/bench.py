"""Measuring a model on a node: it answers there for nobody, at one stream and then at more.

The answers go straight to the worker: they are in no chat, wait in no queue and move nowhere.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from potluck_proto.errors import BadRequest, ModelBusy, NodeLost, from_proto
from potluck_proto.ids import NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.core.events import SpeedMeasured
from potluck_scheduler.core.model import Model
from potluck_scheduler.nodes import NodeRegistry

LEVEL_SECONDS = 2.0
"""Streams ask again until so much time has passed, so that a fast model is measured too."""

ANSWER_TOKENS = 64
"""An answer is no longer: at two tokens a second that is half a minute."""

PROMPT_WORDS = 128
"""Of a prompt, where the context has room for 16 tokens a word."""

LOOK_SECONDS = 0.25
"""How often memory and power are looked at, and how far the measurement is."""

WORDS = (
    *("apple", "bench", "candle", "door", "east", "farm", "garden", "hill", "island", "jar"),
    *("kettle", "lamp", "mill", "night", "orchard", "pond", "queen", "river", "stone", "tower"),
)


@dataclass(slots=True)
class Tally:
    """What the answers of one level took, all together."""

    prompt_tokens: int = 0
    prefill_seconds: float = 0.0
    tokens: int = 0
    decode_seconds: float = 0.0
    first_seconds: list[float] = field(default_factory=list)

    def add(self, usage: types.Usage, first_seconds: float | None) -> None:
        """Note an answer."""
        self.prompt_tokens += usage.prompt_tokens - usage.cached_prompt_tokens
        self.prefill_seconds += usage.prefill_seconds
        self.tokens += usage.completion_tokens
        self.decode_seconds += usage.decode_seconds
        if first_seconds is not None:
            self.first_seconds.append(first_seconds)


class Bench:
    """Measures a model that is in a node's memory.

    Args:
        nodes: The workers.
        node_id: Where.
        model: Which, as the node describes it.

    Attributes:
        benchmark: What was found so far.
        lessons: Of that, what the core learns.
    """

    def __init__(self, nodes: NodeRegistry, node_id: NodeId, model: Model) -> None:
        self._nodes = nodes
        self._node_id = node_id
        self._model = model
        self._numbers = itertools.count(1)
        self._random = random.Random()
        self._watts: list[float] = []
        self.benchmark = pb.Benchmark(
            node_id=node_id,
            node_name=nodes.name(node_id),
            model=model.key.name,
            quantization=model.key.quantization,
            measured_unix_seconds=time.time(),
        )
        self.lessons: list[SpeedMeasured] = []

    def check_idle(self) -> None:
        """Raise `ModelBusy` where the node works for others now."""
        state = self._state()
        busy = sum(loaded.slots_busy + loaded.queue_length for loaded in state.loaded)
        if busy:
            answers = "1 answer" if busy == 1 else f"{busy} answers"
            raise ModelBusy(
                f"{state.name} has {answers} under way, so a measurement would be of both. "
                "Try again when it is idle."
            )

    async def run(self) -> AsyncGenerator[pb.BenchmarkProgress]:
        """Measure at one stream and at more, up to what the model takes; say how far it is.

        Raises:
            PotluckError: The model cannot answer, or its node was lost.
        """
        await self._answer(Tally(), most_tokens=4)  # the first one warms up
        most = self._slots()
        for streams in _levels(most):
            tally = Tally()
            self._watts.clear()
            started = time.monotonic()
            work = asyncio.ensure_future(self._level(streams, tally))
            try:
                while not work.done():
                    yield pb.BenchmarkProgress(
                        streams=streams, most_streams=most, tokens=tally.tokens
                    )
                    await asyncio.wait([work], timeout=LOOK_SECONDS)
                    self._look()
                await work
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            self._note(streams, tally, time.monotonic() - started)

    async def _level(self, streams: int, tally: Tally) -> None:
        """Have so many answers written beside each other, again and again for a while."""
        enough = time.monotonic() + LEVEL_SECONDS

        async def stream() -> None:
            while True:
                await self._answer(tally)
                if time.monotonic() >= enough:
                    return

        work = [asyncio.ensure_future(stream()) for _ in range(streams)]
        try:
            await asyncio.gather(*work)
        finally:
            for each in work:
                each.cancel()

    async def _answer(self, tally: Tally, most_tokens: int = ANSWER_TOKENS) -> None:
        """Have one answer written. Raises `PotluckError` where it fails."""
        work = self._nodes.work(self._node_id)
        if work is None:
            raise NodeLost(f"{self._nodes.name(self._node_id)} was lost while it was measured.")
        started, first_seconds = time.monotonic(), None

        def take(response: worker.GenerateResponse) -> None:
            nonlocal first_seconds
            if first_seconds is None and response.HasField("delta"):
                first_seconds = time.monotonic() - started

        job = work.start(self._request(most_tokens), take)
        try:
            end = await job.ended
        finally:
            job.close()
        if end.reason == types.END_REASON_FAILED:
            raise from_proto(end.error)
        tally.add(end.usage, first_seconds)

    def _request(self, most_tokens: int) -> worker.GenerateRequest:
        """Return a request whose prompt is like no other, so that none of it is known."""
        number = next(self._numbers)
        words = self._random.choices(
            WORDS, k=max(4, min(PROMPT_WORDS, self._model.context_length // 16))
        )
        return worker.GenerateRequest(
            generation_id=f"bench-{self._random.getrandbits(64):x}-{number}",
            model=self._model.key.name,
            quantization=self._model.key.quantization,
            messages=[
                types.Message(
                    role=types.ROLE_USER,
                    content=f"Tell a long story with these words in it: {' '.join(words)}.",
                )
            ],
            sampling=types.Sampling(max_tokens=most_tokens, seed=number),
        )

    def _look(self) -> None:
        """Note what the node says of memory and power."""
        if (held := self._held()) is not None:
            known_bytes = self.benchmark.memory_bytes
            self.benchmark.memory_bytes = max(known_bytes, held.memory_bytes)
        devices = self._state().devices
        watts = [device.watts for device in devices if device.HasField("watts")]
        if watts:
            self._watts.append(sum(watts))

    def _note(self, streams: int, tally: Tally, seconds: float) -> None:
        """Note what a level came to. Raises `BadRequest` where it came to nothing."""
        if not (tally.tokens and tally.decode_seconds and tally.first_seconds):
            raise BadRequest(
                f"{self._model.key} ends its answers at once, so its speed cannot be measured."
            )
        level = self.benchmark.levels.add(
            streams=streams,
            decode_tokens_per_second=tally.tokens / tally.decode_seconds,
            total_tokens_per_second=tally.tokens / seconds,
            time_to_first_token_seconds=statistics.median(tally.first_seconds),
        )
        if tally.prefill_seconds:
            level.prefill_tokens_per_second = tally.prompt_tokens / tally.prefill_seconds
        if self._watts:
            level.joules_per_token = statistics.fmean(self._watts) * seconds / tally.tokens
        alone = streams == 1  # says best how fast a prompt is read
        self.lessons.append(
            SpeedMeasured(
                self._node_id,
                self._model.key,
                tally.tokens,
                tally.decode_seconds,
                tally.prompt_tokens if alone else 0,
                tally.prefill_seconds if alone else 0.0,
                busy=streams,
            )
        )

    def _slots(self) -> int:
        """Return how many answers the model writes at once, as it is held now."""
        held = self._held()
        return held.slots if held is not None and held.slots else self._model.slots

    def _held(self) -> types.LoadedModel | None:
        """Return the model in the node's memory, `None` where the node has not said it yet."""
        name, quantization = self._model.key.name, self._model.key.quantization
        for held in self._state().loaded:
            if (held.name, held.quantization) == (name, quantization):
                return held
        return None

    def _state(self) -> types.NodeState:
        """Return the node's last words. Raises `NodeLost`."""
        for state in self._nodes.living_states():
            if state.node_id == self._node_id:
                return state
        raise NodeLost(f"{self._nodes.name(self._node_id)} was lost while it was measured.")


def _levels(most: int) -> Iterator[int]:
    """Yield 1, 2, 4 and so on, and the most."""
    streams = 1
    while streams < most:
        yield streams
        streams *= 2
    yield most
