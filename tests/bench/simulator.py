"""The scheduler's core against pools that are not there: a house, and a thousand machines.

A part of `make bench`. The same trace of chats is played to our core and to the usual policies, in
virtual time. Goodput is the tokens of answers that ended within the time. The oracle's bound is
what no policy can beat: each answer has the fastest machine for itself, knows its conversation, and
all machines together do no more than they can. All policies go on elsewhere when a machine goes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.simulator_drivers import (
    CoreDriver,
    Driver,
    Hands,
    UsualDriver,
    fewest_in_flight,
    random_of_two,
    round_robin,
)
from bench.simulator_traces import Chat, Outage, chats, kinds, outages
from bench.simulator_world import Clock, Kind, ModelSpec, SimNode, Task

WARM_UP_SECONDS = 120.0
"""At first nothing is in memory, which says more of disks than of policies: chats that begin within
this time are not counted."""

Machines = Sequence[tuple[str, Kind, tuple[ModelSpec, ...]]]

POLICIES: dict[str, Callable[[Hands], Driver]] = {
    "potluck": CoreDriver,
    "round robin": lambda hands: UsualDriver(hands, round_robin()),
    "fewest in flight": lambda hands: UsualDriver(hands, fewest_in_flight()),
    "random of two": lambda hands: UsualDriver(hands, random_of_two(1)),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a policy."""

    tokens_per_second: float
    first_p50: float
    first_p99: float
    evictions: int
    hits: float
    """Of the tokens of earlier turns, the part that was known where the next turn began."""
    asked: int
    ended: int


class Simulation:
    """One pool, one trace, one policy."""

    def __init__(
        self, machines: Machines, trace: Sequence[Chat], away: Sequence[Outage], policy: str
    ) -> None:
        self.clock = Clock()
        self.nodes = [SimNode(name, kind, files) for name, kind, files in machines]
        self.tasks: list[Task] = []
        self._driver = POLICIES[policy](Hands(self.nodes, self.clock, self._begin))
        for chat in trace:
            self.clock.at(chat.starts, partial(self._ask, chat, 0, ()))
        for outage in away:
            node = self.nodes[outage.node]
            self.clock.at(outage.since, partial(self._fail, node))
            self.clock.at(outage.until, partial(self._return, node))
        self._chats = {chat.number: chat for chat in trace}

    def run(self, seconds: float) -> Outcome:
        """Play the trace; return what came of the chats that count."""
        self.clock.run(seconds)
        asked = [task for task in self.tasks if counts(self._chats[task.chat])]
        ended = [task for task in asked if task.ended is not None]
        firsts = [(task.first or seconds) - task.asked for task in asked]
        cuts = statistics.quantiles(firsts, n=100)
        could = known = 0.0
        for task in asked:
            if task.hit is not None and task.turn:
                before = task.prompt_tokens - task.conversation[-1]
                could += before
                known += task.hit * before
        return Outcome(
            tokens_per_second=sum(t.answer_tokens for t in ended) / (seconds - WARM_UP_SECONDS),
            first_p50=cuts[49],
            first_p99=cuts[98],
            evictions=sum(node.evictions for node in self.nodes),
            hits=known / could if could else 1.0,
            asked=len(asked),
            ended=len(ended),
        )

    def _ask(self, chat: Chat, turn: int, before: tuple[int, ...]) -> None:
        now, step = self.clock.now, chat.turns[turn]
        task = Task(
            len(self.tasks), chat.number, chat.model, (*before, step.prompt_tokens),
            step.answer_tokens, asked=now, turn=turn,
        )  # fmt: skip
        self.tasks.append(task)
        self._driver.ask(task)

    def _begin(self, node: SimNode, task: Task) -> None:
        node.begin(task, self.clock.now)
        self._wait_for(node)

    def _wait_for(self, node: SimNode) -> None:
        """Look at a node again when its next answer ends."""
        version, when = node.version, node.next_end()
        if when is not None:
            self.clock.at(when, lambda: self._look(node) if node.version == version else None)

    def _look(self, node: SimNode) -> None:
        for running in node.end_done(self.clock.now):
            task = running.task
            task.ended = self.clock.now
            self._driver.ended(node, running)
            chat = self._chats[task.chat]
            if task.turn + 1 < len(chat.turns):
                after = (*task.conversation, task.answer_tokens)
                when = task.ended + chat.turns[task.turn + 1].think_seconds
                self.clock.at(when, partial(self._ask, chat, task.turn + 1, after))
        self._wait_for(node)

    def _fail(self, node: SimNode) -> None:
        self._driver.lost(node, node.fail(self.clock.now))

    def _return(self, node: SimNode) -> None:
        node.up = True
        self._driver.returned(node)


def counts(chat: Chat) -> bool:
    """Say whether a chat began after the first models were in memory."""
    return chat.starts > WARM_UP_SECONDS


def capacity(machines: Machines) -> float:
    """Return the GiB of models that all machines read in a second, with all slots in use."""
    return sum(
        kind.gib_per_second * kind.slots / (1 + kind.crowding * (kind.slots - 1))
        for _, kind, _ in machines
    )


def oracle_bound(machines: Machines, trace: Sequence[Chat], seconds: float) -> float:
    """Return tokens per second that no policy can beat."""
    quickest = max(machines, key=lambda machine: machine[1].gib_per_second)[1]
    done: list[tuple[float, int, float]] = []
    for chat in filter(counts, trace):
        now = chat.starts
        for number, turn in enumerate(chat.turns):
            now += turn.think_seconds if number else 0.0
            token = chat.model.gib / quickest.gib_per_second
            work = turn.answer_tokens + turn.prompt_tokens / quickest.prefill_factor
            now += work * token
            if now > seconds:
                break
            done.append((chat.model.gib, turn.answer_tokens, work * chat.model.gib))
    measured = seconds - WARM_UP_SECONDS
    tokens, room = 0, capacity(machines) * measured
    for _, answer_tokens, work in sorted(done):
        room -= work
        if room < 0:
            break
        tokens += answer_tokens
    return tokens / measured


def load_of(machines: Machines, trace: Sequence[Chat], seconds: float) -> float:
    """Return the part of what all machines can do that a trace asks for."""
    work = sum(
        (turn.answer_tokens + turn.prompt_tokens / 20) * chat.model.gib
        for chat in trace
        for turn in chat.turns
    )
    return work / (capacity(machines) * seconds)


def fleet(count: int) -> Machines:
    """Return so many machines, as a house has them."""
    house = kinds()
    return [
        (f"{name}-{number // len(house)}", kind, files)
        for number in range(count)
        for name, kind, files in [house[number % len(house)]]
    ]


def measure(title: str, machines: Machines, load: float, seconds: float, per_hour: float) -> None:
    """Play one trace to every policy, and print what came of it."""
    rate = 0.01
    for _ in range(6):  # as many chats as make the load
        trace = chats(1, rate, seconds)
        rate *= load / max(load_of(machines, trace, seconds), 1e-3)
    away = outages(2, len(machines), seconds, per_hour) if per_hour else []
    bound = oracle_bound(machines, trace, seconds)
    print(
        f"{title}, {load:.0%} of capacity: {len(trace)} chats in {seconds / 60:.0f} min, "
        f"{len(away)} outages; oracle {bound:.0f} tokens/s"
    )
    print(
        f"  {'':<20} {'goodput':>8} {'of bound':>9} {'first p50':>10} {'p99':>8}  evictions  hits"
    )
    for policy in POLICIES:
        started = time.perf_counter()
        got = Simulation(machines, trace, away, policy).run(seconds)
        print(
            f"  {policy:<20} {got.tokens_per_second:>8.0f} {got.tokens_per_second / bound:>9.1%} "
            f"{got.first_p50:>8.2f} s {got.first_p99:>6.1f} s {got.evictions:>10} {got.hits:>6.1%}"
            f"   ({got.ended} of {got.asked} ended; {time.perf_counter() - started:.0f} s to play)"
        )


def main() -> None:
    """Print the tables."""
    house, hour = kinds(), 3600.0
    measure("a house of 8", house, 0.3, hour, 0)
    measure("a house of 8", house, 0.7, hour, 0)
    measure("a house of 8, machines come and go", house, 0.5, hour, 2)
    if "--quick" not in sys.argv:
        measure("1,000 machines, they come and go", fleet(1_000), 0.6, 420.0, 2)


if __name__ == "__main__":
    main()
