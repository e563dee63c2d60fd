"""Who decides in the simulator: our core, or one of the usual policies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.simulator_world import GIB, Clock, ModelSpec, Running, SimNode, Task
from potluck_proto.errors import NodeLost as NodeLostError
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core.events import (
    Cause,
    Dispatch,
    Event,
    Load,
    LoadFinished,
    NodeLost,
    NodeUpdated,
    Refuse,
    RequestEnded,
    RequestInterrupted,
    RequestSubmitted,
    SpeedMeasured,
    TimePassed,
)
from potluck_scheduler.core.model import Loaded, Model, ModelKey, Node, Request
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.core.state import Limits

BLOCK_TOKENS = 64
BLOCKS = 256
TICK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Hands:
    """What a driver may do."""

    nodes: Sequence[SimNode]
    clock: Clock
    begin: Callable[[SimNode, Task], None]
    """Lets an answer begin, or go on, at a node."""


class Driver(Protocol):
    """Decides."""

    def ask(self, task: Task) -> None:
        """Take a request."""
        ...

    def ended(self, node: SimNode, running: Running) -> None:
        """Hear that an answer ended."""
        ...

    def lost(self, node: SimNode, interrupted: list[Task]) -> None:
        """Hear that a node went away."""
        ...

    def returned(self, node: SimNode) -> None:
        """Hear that a node is back."""
        ...


class CoreDriver:
    """Our core, told what a scheduler would be told.

    Args:
        hands: What it may do.
    """

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._core = Scheduler(limits=Limits(queued=1_000_000))
        self._nodes = {NodeId(node.name): node for node in hands.nodes}
        self._tasks: dict[GenerationId, Task] = {}
        self._files = {node.name: _files(node) for node in hands.nodes}
        for node in hands.nodes:
            self._tell(NodeUpdated(self._snapshot(node)))
        hands.clock.at(TICK_SECONDS, self._tick)

    def ask(self, task: Task) -> None:
        """Take a request."""
        generation_id = GenerationId(str(task.number))
        self._tasks[generation_id] = task
        request = Request(
            generation_id,
            task.model.name,
            client=f"chat-{task.chat}",
            prompt_tokens=task.prompt_tokens,
            prefix=_prefix(task, task.prompt_tokens),
        )
        self._tell(RequestSubmitted(request))

    def ended(self, node: SimNode, running: Running) -> None:
        """Hear that an answer ended."""
        task, now = running.task, self._hands.clock.now
        generation_id = GenerationId(str(task.number))
        prefilled = running.prefilled or now
        known = int((task.hit or 0.0) * (task.prompt_tokens - task.conversation[-1]))
        self._tell(
            SpeedMeasured(
                NodeId(node.name),
                _key(task.model),
                task.answer_tokens,
                now - prefilled,
                task.prompt_tokens - known,
                prefilled - running.started,
            )
        )
        del self._tasks[generation_id]
        tokens = task.prompt_tokens + task.answer_tokens
        self._tell(RequestEnded(generation_id, task.answer_tokens, _prefix(task, tokens)))

    def lost(self, node: SimNode, interrupted: list[Task]) -> None:
        """Hear that a node went away."""
        self._tell(NodeLost(NodeId(node.name)))
        for task in interrupted:
            error = NodeLostError(f"{node.name} was lost.")
            self._tell(
                RequestInterrupted(
                    GenerationId(str(task.number)), Cause.NODE_LOST, error, int(task.done_tokens)
                )
            )

    def returned(self, node: SimNode) -> None:
        """Hear that a node is back."""
        self._tell(NodeUpdated(self._snapshot(node)))

    def _tick(self) -> None:
        if self._core.is_waiting:
            self._tell(TimePassed())
        self._hands.clock.at(self._hands.clock.now + TICK_SECONDS, self._tick)

    def _tell(self, event: Event) -> None:
        for each in self._core.handle(event, self._hands.clock.now):
            match each:
                case Dispatch():
                    self._hands.begin(self._nodes[each.node_id], self._tasks[each.generation_id])
                case Load():
                    self._load(each)
                case Refuse():
                    raise AssertionError(f"refused: {each.decision.error}")

    def _load(self, load: Load) -> None:
        node, now = self._nodes[load.node_id], self._hands.clock.now
        model = next(model for model in node.files if model.name == load.key.name)
        ready = node.load(model, now, tuple(key.name for key in load.evict))

        def loaded() -> None:
            if node.up and model.name in node.held:
                self._tell(LoadFinished(load.node_id, load.key, ready - now))
                self._tell(NodeUpdated(self._snapshot(node)))

        self._hands.clock.at(now, lambda: self._tell(NodeUpdated(self._snapshot(node))))
        self._hands.clock.at(ready, loaded)

    def _snapshot(self, node: SimNode) -> Node:
        now = self._hands.clock.now
        held = tuple(
            Loaded(
                _key(held.model),
                node.kind.slots,
                node.busy(name),
                memory_bytes=int(held.model.gib * GIB),
                ready=held.ready_at <= now,
                idle_seconds=now - held.used,
            )
            for name, held in node.held.items()
        )
        return Node(
            NodeId(node.name),
            node.name,
            self._files[node.name],
            held,
            int(node.free_gib * GIB),
            int(node.kind.memory_gib * GIB),
            accelerator=node.kind.accelerator,
        )


def _files(node: SimNode) -> tuple[Model, ...]:
    return tuple(
        Model(
            _key(model),
            file_bytes=int(model.gib * GIB),
            memory_needed_bytes=int(model.gib * GIB),
            slots=node.kind.slots,
            engines=("llama",),
        )
        for model in node.files
        if model.gib <= node.kind.memory_gib
    )


def _key(model: ModelSpec) -> ModelKey:
    return ModelKey(model.name, "Q4_K_M")


def _prefix(task: Task, tokens: int) -> tuple[int, ...]:
    """Return what stands for the hashes of a conversation's beginnings."""
    blocks = min(tokens // BLOCK_TOKENS, BLOCKS)
    return tuple(task.chat * 10_000 + block for block in range(blocks))


Choose = Callable[[list[SimNode], dict[str, int]], SimNode]


class UsualDriver:
    """A usual policy, with a queue on each node; a node loads what is asked for, as it fits.

    Args:
        hands: What it may do.
        choose: Takes one of the nodes that have a model, by the answers in flight on each.
    """

    def __init__(self, hands: Hands, choose: Choose) -> None:
        self._hands = hands
        self._choose = choose
        self._queues: dict[str, list[Task]] = {node.name: [] for node in hands.nodes}
        self._in_flight = dict.fromkeys(self._queues, 0)
        self._homeless: list[Task] = []

    def ask(self, task: Task) -> None:
        """Take a request."""
        able = [
            node
            for node in self._hands.nodes
            if node.up and task.model in node.files and task.model.gib <= node.kind.memory_gib
        ]
        if not able:
            self._homeless.append(task)
            return
        node = self._choose(able, self._in_flight)
        self._in_flight[node.name] += 1
        self._queues[node.name].append(task)
        self._serve(node)

    def ended(self, node: SimNode, running: Running) -> None:
        """Hear that an answer ended."""
        self._in_flight[node.name] -= 1
        self._serve(node)

    def lost(self, node: SimNode, interrupted: list[Task]) -> None:
        """Hear that a node went away: its answers go on elsewhere here, too."""
        waiting, self._queues[node.name] = self._queues[node.name], []
        self._in_flight[node.name] = 0
        for task in (*interrupted, *waiting):
            self.ask(task)

    def returned(self, node: SimNode) -> None:
        """Hear that a node is back."""
        homeless, self._homeless = self._homeless, []
        for task in homeless:
            self.ask(task)

    def _serve(self, node: SimNode) -> None:
        """Begin what can begin; load for the first that lacks its model."""
        now, queue = self._hands.clock.now, self._queues[node.name]
        for task in list(queue):
            held = node.held.get(task.model.name)
            if held is None:
                self._try_load(node, task.model)
            elif held.ready_at <= now and node.busy(task.model.name) < node.kind.slots:
                queue.remove(task)
                self._hands.begin(node, task)

    def _try_load(self, node: SimNode, model: ModelSpec) -> None:
        """Load a model in the place of idle ones, used longest ago first, if that is enough."""
        now, evict, room = self._hands.clock.now, [], node.free_gib
        idle = [n for n, h in node.held.items() if not node.busy(n) and h.ready_at <= now]
        for name in sorted(idle, key=lambda name: node.held[name].used):
            if room >= model.gib:
                break
            evict.append(name)
            room += node.held[name].model.gib
        if room >= model.gib:
            ready = node.load(model, now, tuple(evict))
            self._hands.clock.at(ready, lambda: self._serve(node) if node.up else None)


def round_robin() -> Choose:
    """One after the other."""
    turn = 0

    def choose(able: list[SimNode], in_flight: dict[str, int]) -> SimNode:
        nonlocal turn
        turn += 1
        return able[turn % len(able)]

    return choose


def fewest_in_flight() -> Choose:
    """The one with the fewest answers."""
    return lambda able, in_flight: min(able, key=lambda node: in_flight[node.name])


def random_of_two(seed: int) -> Choose:
    """The better of two that are drawn."""
    chance = random.Random(seed)

    def choose(able: list[SimNode], in_flight: dict[str, int]) -> SimNode:
        drawn = chance.sample(able, min(2, len(able)))
        return min(drawn, key=lambda node: in_flight[node.name])

    return choose
