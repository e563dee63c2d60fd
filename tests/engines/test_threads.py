"""The number of threads, on a simulated machine whose other programs come and go."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import psutil
import pytest

from potluck_worker.engines.llama.threads import OthersLoad, ThreadPilot


@dataclass
class Machine:
    """Two cores, as measured: what a step takes with one or two threads, quiet and not."""

    busy: bool = False
    now: float = 0.0
    speeds: dict[tuple[bool, int], float] = field(
        default_factory=lambda: {
            (False, 1): 0.017,
            (False, 2): 0.011,
            (True, 1): 0.017,
            (True, 2): 0.044,
        }
    )
    fools: float = 0.0
    """What the others' load is said to be beyond what it is."""

    def others(self) -> float:
        return self.fools + (1.0 if self.busy else 0.0)

    def run(self, pilot: ThreadPilot, seconds: float) -> tuple[int, float]:
        """Decode for so long; return the tokens, and the speed as a share of the best."""
        until, tokens, started = self.now + seconds, 0, self.now
        while self.now < until:
            took = self.speeds[self.busy, pilot.threads]
            self.now += took
            pilot.learn(1, took)
            tokens += 1
        best = min(self.speeds[self.busy, threads] for threads in (1, 2))
        return tokens, tokens * best / (self.now - started)


def pilot_of(machine: Machine) -> ThreadPilot:
    return ThreadPilot(2, 2, machine.others, lambda: machine.now)


def test_a_quiet_machine_is_used_whole() -> None:
    machine = Machine()
    pilot = pilot_of(machine)
    _, share = machine.run(pilot, 60)
    assert pilot.threads == 2
    assert share > 0.95


@pytest.mark.parametrize("fools", [0.0, -1.0], ids=["seen", "felt"])
def test_a_busy_program_is_made_room_for_and_back_again(fools: float) -> None:
    """Whether its load is seen, or only felt in the steps."""
    machine = Machine()
    pilot = pilot_of(machine)
    machine.run(pilot, 5)
    machine.busy, machine.fools = True, fools
    machine.run(pilot, 2)
    _, share = machine.run(pilot, 20)
    assert share > 0.9
    assert pilot.threads == 1
    machine.busy, machine.fools = False, 0.0
    machine.run(pilot, 2)
    _, share = machine.run(pilot, 20)
    assert share > 0.9
    assert pilot.threads == 2


def test_a_load_that_costs_nothing_is_not_made_room_for() -> None:
    """The daemon's own work counts as others' too: what steps take has the last word."""
    machine = Machine(fools=0.8)
    pilot = pilot_of(machine)
    machine.run(pilot, 2)
    _, share = machine.run(pilot, 60)
    assert share > 0.95


def test_fewer_threads_are_found_where_memory_is_the_limit() -> None:
    machine = Machine()
    machine.speeds[False, 1] = 0.009
    pilot = pilot_of(machine)
    machine.run(pilot, 60)
    assert pilot.threads == 1


def test_steps_of_other_sizes_are_not_compared() -> None:
    machine = Machine()
    pilot = pilot_of(machine)
    for step in range(2000):
        decoding = 1 + step % 8
        pilot.learn(decoding, 0.01 * decoding)
        machine.now += 0.01 * decoding
    assert pilot.threads == 2


def test_the_load_of_others_is_not_our_own() -> None:
    load = OthersLoad()
    started, spent = time.monotonic(), time.process_time()
    while time.process_time() < spent + 0.5:
        sum(range(10_000))
    others = load()
    own = (time.process_time() - spent) / (time.monotonic() - started)
    assert 0.0 <= others <= (psutil.cpu_count() or 1) - own + 0.15
