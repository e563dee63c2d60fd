from __future__ import annotations

import os
import signal
import subprocess

from potluck_worker.process import group_lives


def test_a_group_lives_while_one_of_it_does_and_not_as_zombies() -> None:
    script = "sleep 3600 & echo there; exec sleep 3600"
    leader = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    assert leader.stdout.readline() == b"there\n"
    leader.stdout.close()
    assert group_lives(leader.pid)
    os.kill(leader.pid, signal.SIGKILL)
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    assert group_lives(leader.pid)  # the other sleeps on
    os.killpg(leader.pid, signal.SIGKILL)
    while group_lives(leader.pid):
        pass
    os.killpg(leader.pid, 0)  # the leader is there still, a zombie
    leader.wait()
