from __future__ import annotations

import logging

import pytest

from potluck_proto.refusals import KEPT, KEPT_SECONDS, Refusals


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_same_refusal_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock, changes = Clock(), []
    refusals = Refusals(lambda: changes.append(1), clock)
    for _ in range(3):
        refusals.note("192.0.2.1", "it has no certificate")
    clock.now += 5
    (shown,) = refusals.recent()
    assert (shown.address, shown.count, shown.age_seconds) == ("192.0.2.1", 3, 5)
    assert [r.getMessage() for r in caplog.records] == [
        "turned away 192.0.2.1: it has no certificate"
    ]
    assert len(changes) == 1


def test_what_is_old_is_not_shown_and_is_logged_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = Clock()
    refusals = Refusals(lambda: None, clock)
    refusals.note("192.0.2.1", "x")
    clock.now += KEPT_SECONDS + 1
    assert not refusals.recent()
    refusals.note("192.0.2.1", "x")
    assert [shown.count for shown in refusals.recent()] == [1]
    assert len(caplog.records) == 2


def test_a_flood_from_everywhere_stays_small() -> None:
    refusals = Refusals(lambda: None, Clock())
    for number in range(10 * KEPT):
        refusals.note(f"192.0.2.{number}", "x")
    recent = refusals.recent()
    assert len(recent) == KEPT
    assert recent[0].address == f"192.0.2.{10 * KEPT - 1}"
