from __future__ import annotations

import asyncio
import fcntl
import itertools
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from potluck_proto.daemon import (
    Background,
    died,
    forget_death,
    lock_file,
    running_instance,
    single_instance,
)
from potluck_proto.errors import HomeError
from potluck_proto.home import Home

HOLDER = """
import sys
from pathlib import Path
from potluck_proto.daemon import (
    died,
    forget_death,
    lock_file,
    running_instance,
    single_instance,
)
from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
with single_instance(Home(Path(sys.argv[1])), "worker"):
    print("held", flush=True)
    end = sys.stdin.read()
    if end == "crash":
        raise RuntimeError
    if end == "in words":
        raise PotluckError("It cannot go on.")
"""


def test_a_second_daemon_of_a_home_says_who_the_first_is(short_tmp: Path) -> None:
    home = Home(short_tmp)
    home.prepare()
    assert running_instance(home, "worker") is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(short_tmp)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(HomeError, match=f"process {holder.pid}"),
            single_instance(home, "worker"),
        ):
            pass
        instance = running_instance(home, "worker")
        assert instance is not None
        assert instance["process_id"] == holder.pid
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert running_instance(home, "worker") is None
    with single_instance(home, "worker"):
        pass


@pytest.mark.parametrize("end", [signal.SIGKILL, "crash", "in words", "in order"])
def test_a_daemon_that_was_killed_or_crashed_is_told_from_one_that_ended(
    short_tmp: Path, end: signal.Signals | str
) -> None:
    home = Home(short_tmp)
    home.prepare()
    assert not died(home, "worker")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(short_tmp)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        assert not died(home, "worker")
        if isinstance(end, signal.Signals):
            holder.send_signal(end)
        else:
            holder.stdin.write(end.encode())
        holder.stdin.close()
        holder.wait()
    assert died(home, "worker") == (end in {signal.SIGKILL, "crash"})
    forget_death(home, "worker")
    assert not died(home, "worker")


def test_two_who_look_do_not_take_each_other_for_the_daemon(short_tmp: Path) -> None:
    home = Home(short_tmp)
    home.prepare()
    with single_instance(home, "worker"):
        words = lock_file(home, "worker").read_text()
    lock_file(home, "worker").write_text(words)
    with lock_file(home, "worker").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert running_instance(home, "worker") is None
        assert died(home, "worker")


async def test_what_fails_in_the_background_is_logged_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beats = asyncio.Queue[int]()

    async def beat() -> None:
        for number in itertools.count():
            beats.put_nowait(number)
            await asyncio.sleep(0)

    async def fail() -> None:
        raise ZeroDivisionError("no cards")

    background = Background()
    with caplog.at_level(logging.ERROR):
        background.keep(beat())
        background.keep(fail())
        while await beats.get() < 3:
            pass
    assert "no cards" in caplog.text
    await background.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
