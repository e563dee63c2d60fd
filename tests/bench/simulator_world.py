"""A pool in virtual time: nodes that compute, remember, load and go away. No randomness in here.

A node shares its time among its answers: with `b` of them each goes on at `1 / (1 + crowding (b -
1))` of a lone one's speed, first through the part of its prompt that the node does not know, then
token by token. It knows the conversations that it saw last, as far as its cache holds them, while
their model is in memory.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

GIB = 2**30
CACHE_TOKENS = 32_768
"""What a model's cache holds of conversations, answers under way included."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine."""

    name: str
    accelerator: str
    memory_gib: float
    gib_per_second: float
    """How fast it reads its memory: a token reads the whole model once."""
    crowding: float
    prefill_factor: float
    load_gib_per_second: float
    slots: int = 4


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model."""

    name: str
    gib: float


@dataclass(eq=False)
class Task:
    """An answer that is asked for."""

    number: int
    chat: int
    model: ModelSpec
    conversation: tuple[int, ...]
    """Tokens of each message before it, the new prompt last."""
    answer_tokens: int
    asked: float = 0.0
    first: float | None = None
    ended: float | None = None
    done_tokens: float = 0.0
    hit: float | None = None
    """The part of the prompt that was known where it began."""
    turn: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt."""
        return sum(self.conversation)


@dataclass(eq=False)
class Running:
    """An answer on a node."""

    task: Task
    prefill_tokens: float
    started: float
    prefilled: float | None = None


@dataclass(eq=False)
class Held:
    """A model in a node's memory."""

    model: ModelSpec
    ready_at: float
    known: OrderedDict[int, int] = field(default_factory=OrderedDict)
    """Tokens that are known of each chat, the one seen last at the end."""
    used: float = 0.0


class SimNode:
    """A machine.

    Args:
        name: What it is called.
        kind: What it is.
        files: The models that it has.
    """

    def __init__(self, name: str, kind: Kind, files: tuple[ModelSpec, ...]) -> None:
        self.name = name
        self.kind = kind
        self.files = files
        self.up = True
        self.held: dict[str, Held] = {}
        self.running: list[Running] = []
        self.version = 0
        self.evictions = 0
        self._at = 0.0

    def token_seconds(self, model: ModelSpec) -> float:
        """Return what a token of a lone answer takes."""
        return model.gib / self.kind.gib_per_second

    @property
    def free_gib(self) -> float:
        """Memory that no model holds."""
        return self.kind.memory_gib - sum(held.model.gib for held in self.held.values())

    def busy(self, model: str) -> int:
        """Return the answers of a model that are here."""
        return sum(running.task.model.name == model for running in self.running)

    def advance(self, now: float) -> None:
        """Let the answers go on until now."""
        if self.running:
            speed = 1 / (1 + self.kind.crowding * (len(self.running) - 1))
            for running in self.running:
                self._go_on(running, self._at, (now - self._at) * speed, speed)
        self._at = now

    def _go_on(self, running: Running, since: float, seconds: float, speed: float) -> None:
        token = self.token_seconds(running.task.model)
        if running.prefill_tokens > 0:
            needed = running.prefill_tokens * token / self.kind.prefill_factor
            used = min(needed, seconds)
            running.prefill_tokens -= used / token * self.kind.prefill_factor
            seconds -= used
            if running.prefill_tokens > 1e-9:
                return
            running.prefill_tokens = 0.0
            running.prefilled = since + used / speed
            if running.task.first is None:
                running.task.first = running.prefilled
        running.task.done_tokens += seconds / token

    def next_end(self) -> float | None:
        """Return when the next answer ends if nothing else happens."""
        if not self.running:
            return None
        speed = 1 / (1 + self.kind.crowding * (len(self.running) - 1))
        rest = min(self._rest_seconds(running) for running in self.running)
        return self._at + max(0.0, rest) / speed

    def _rest_seconds(self, running: Running) -> float:
        token = self.token_seconds(running.task.model)
        prefill = running.prefill_tokens * token / self.kind.prefill_factor
        return prefill + (running.task.answer_tokens - running.task.done_tokens) * token

    def load(self, model: ModelSpec, now: float, evict: tuple[str, ...] = ()) -> float:
        """Begin to load a model; return when it is in memory."""
        for name in evict:
            del self.held[name]
            self.evictions += 1
        assert self.free_gib >= model.gib, f"{self.name} has no room for {model.name}"
        ready = now + 1.0 + model.gib / self.kind.load_gib_per_second
        self.held[model.name] = Held(model, ready, used=now)
        return ready

    def begin(self, task: Task, now: float) -> None:
        """Begin an answer, or go on with one, after what is known of its prompt."""
        self.advance(now)
        held = self.held[task.model.name]
        held.used = now
        prompt = task.prompt_tokens
        # The new prompt itself is never known.
        known = min(held.known.get(task.chat, 0), prompt - task.conversation[-1])
        if task.hit is None:
            before = prompt - task.conversation[-1]
            task.hit = known / before if before else None
        rest = prompt - known + task.done_tokens
        self.running.append(Running(task, rest, now))
        self.version += 1

    def remember(self, task: Task) -> None:
        """Keep a conversation in the cache; those seen longest ago make room."""
        held = self.held.get(task.model.name)
        if held is None:
            return
        held.known.pop(task.chat, None)
        held.known[task.chat] = task.prompt_tokens + int(task.done_tokens)
        while sum(held.known.values()) > CACHE_TOKENS and len(held.known) > 1:
            held.known.popitem(last=False)

    def end_done(self, now: float) -> list[Running]:
        """Take out the answers that are complete."""
        self.advance(now)
        ended = [r for r in self.running if r.task.done_tokens >= r.task.answer_tokens - 1e-6]
        for running in ended:
            self.running.remove(running)
            running.task.done_tokens = running.task.answer_tokens
            self.held[running.task.model.name].used = now
            self.remember(running.task)
        self.version += 1
        return ended

    def fail(self, now: float) -> list[Task]:
        """Go down; return the answers that were under way."""
        self.advance(now)
        interrupted = [running.task for running in self.running]
        self.up, self.running, self.held = False, [], {}
        self.version += 1
        return interrupted


class Clock:
    """What happens when, in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Have something happen at a time."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._numbers), what))

    def run(self, until: float) -> None:
        """Let everything happen until a time."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = until
