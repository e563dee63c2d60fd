"""This program as a job of a shell, which may be put aside."""

from __future__ import annotations

import os
import signal

import psutil


def shell_waits() -> bool:
    """Say whether a shell would notice that this job stops, and could have it go on.

    There is none where a terminal's window runs this program alone.
    """
    group, session = os.getpgid(0), os.getsid(0)
    try:
        above = next(p.pid for p in psutil.Process().parents() if os.getpgid(p.pid) != group)
        return os.getsid(above) == session
    except (StopIteration, OSError, psutil.Error):
        return False


def put_aside() -> None:
    """Stop the whole job, as the terminal itself does: what started this program is part of it."""
    os.killpg(0, signal.SIGTSTP)
