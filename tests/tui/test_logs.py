from __future__ import annotations

from potluck_tui.events import LogFailed, LogGrew, LogOpened
from potluck_tui.instructions import FollowLog
from potluck_tui.log_view import LINES_KEPT, LogKey
from potluck_tui.session import Session
from tui import samples
from tui.stage import StagedApp, staged, until

WORKER = LogKey("192.0.2.10:7421")
SMALL = LogKey(WORKER.address, "small")
LARGE = LogKey(WORKER.address, "large")


def opened() -> Session:
    """Return a session that shows the log of a worker with two models."""
    session = Session()
    assert session.inspector.show_log(WORKER, "studio") == [FollowLog(WORKER)]
    session.handle(LogOpened(WORKER, ("large", "small"), ("one", "two")))
    return session


def counted(app: StagedApp) -> int:
    """Return how many lines of the log that is shown have come."""
    log = app.session.inspector.log
    return log.count if log is not None else 0


def test_a_log_opens_grows_and_begins_anew() -> None:
    session = opened()
    session.handle(LogGrew(WORKER, ("three",)))
    assert session.inspector.log is not None
    assert session.inspector.log.lines == ("one", "two", "three")
    before = session.inspector.log.opened
    session.handle(LogFailed(WORKER, "The scheduler is away."))
    assert session.inspector.log.problem == "The scheduler is away."
    session.handle(LogOpened(WORKER, (), ("two", "three", "four")))
    assert session.inspector.log.lines == ("two", "three", "four")
    assert session.inspector.log.opened > before
    assert not session.inspector.log.problem


def test_what_comes_of_another_log_is_too_late() -> None:
    session = opened()
    assert session.inspector.next_log(1) == [FollowLog(LARGE)]
    for event in (LogGrew(WORKER, ("late",)), LogFailed(WORKER, "late")):
        session.handle(event)
    assert session.inspector.log is not None
    assert (session.inspector.log.lines, session.inspector.log.problem) == ((), "")
    assert session.inspector.close_log() == [FollowLog()]
    session.handle(LogOpened(LARGE, (), ("late",)))
    assert session.inspector.log is None


def test_the_logs_of_a_machine_are_a_ring() -> None:
    session = opened()
    assert session.inspector.next_log(-1) == [FollowLog(SMALL)]
    assert session.inspector.next_log(1) == [FollowLog(WORKER)]
    assert session.inspector.next_log(1) == [FollowLog(LARGE)]
    session.inspector.close_log()
    assert session.inspector.next_log(1) == []
    session.inspector.show_log(WORKER, "studio")
    assert session.inspector.next_log(1) == []


def test_a_log_that_grows_for_ever_is_not_kept_whole() -> None:
    session = opened()
    for start in range(0, 3 * LINES_KEPT, 500):
        session.handle(LogGrew(WORKER, tuple(f"{start + number}" for number in range(500))))
    assert session.inspector.log is not None
    assert len(session.inspector.log.lines) == LINES_KEPT
    assert session.inspector.log.lines[-1] == f"{3 * LINES_KEPT - 1}"
    assert session.inspector.log.count == 3 * LINES_KEPT + 2


async def test_new_lines_show_at_the_end_and_leave_a_reader_alone_who_scrolled(
    app: StagedApp,
) -> None:
    app.scheduler.logs[""] = samples.log(80)
    async with staged(app) as pilot:
        await pilot.press("f4", "l")
        await until(pilot, lambda: app.shows("line 80"))
        app.scheduler.write_log("", "first new line")
        await until(pilot, lambda: app.shows("first new line"))
        await pilot.press("home")
        await until(pilot, lambda: app.shows("line 1 of the engine"))
        app.scheduler.write_log("", "second new line")
        await until(pilot, lambda: counted(app) == 82)
        assert app.shows("line 1 of the engine")
        await pilot.press("end")
        await until(pilot, lambda: app.shows("second new line"))
        app.scheduler.write_log("", "third new line")
        await until(pilot, lambda: app.shows("third new line"))


async def test_lines_are_wrapped_anew_in_a_terminal_of_another_size(app: StagedApp) -> None:
    app.scheduler.logs[""] = samples.log(8)
    async with staged(app) as pilot:
        await pilot.press("f4", "l")
        await until(pilot, lambda: app.shows("line 8 "))
        assert not app.shows("enough to be wrapped")
        await pilot.resize_terminal(200, 50)
        await until(pilot, lambda: app.shows("enough to be wrapped"))
        assert sum("load_tensors" in row for row in app.rows()) == 7


async def test_nothing_of_a_log_can_act_on_the_terminal(app: StagedApp) -> None:
    app.scheduler.logs[""] = samples.log(8)
    async with staged(app) as pilot:
        await pilot.press("f4", "l")
        await until(pilot, lambda: app.shows("owned"))
        text = "".join(app.rows())
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


async def test_a_log_comes_back_when_the_scheduler_does(app: StagedApp) -> None:
    app.scheduler.logs[""] = ["before"]
    async with staged(app) as pilot:
        await pilot.press("f4", "l")
        await until(pilot, lambda: app.shows("before"))
        await app.scheduler.stop()
        await until(pilot, lambda: app.shows("does not answer"))
        app.scheduler.logs[""].append("meanwhile")
        await app.scheduler.start()
        await until(pilot, lambda: app.shows("meanwhile"))
        assert sum("before" in row for row in app.rows()) == 1
        assert not app.shows("does not answer")


async def test_a_log_is_followed_no_longer_than_it_is_shown(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await pilot.press("f4", "l")
        await until(pilot, lambda: app.scheduler.log_readers == 1)
        await pilot.press("escape")
        await until(pilot, lambda: app.scheduler.log_readers == 0)
        assert app.shows("Machines:")


async def test_a_log_that_cannot_be_read_says_why(app: StagedApp) -> None:
    app.scheduler.logs = {}
    async with staged(app) as pilot:
        await pilot.press("f4", "l")
        await until(pilot, lambda: app.shows("has no log on this node"))
