from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from potluck_proto.daemon import running_instance, single_instance
from potluck_proto.errors import HomeError
from potluck_proto.home import Home

HOLDER = """
import sys, time
from pathlib import Path
from potluck_proto.daemon import single_instance
from potluck_proto.home import Home
with single_instance(Home(Path(sys.argv[1])), "worker"):
    print("held", flush=True)
    sys.stdin.read()
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
