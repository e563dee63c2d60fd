"""What every child of the daemon does first, so that nothing of it outlives the daemon.

The daemon starts each child as the leader of a process group, with a pipe that it holds open as
standard input. The pipe ends when the daemon does, however that ends; then a watchman, a shell that
does nothing but wait for it, kills the group. So a child goes also while it is in a long call of a
library, and so does whatever it has started, on every platform.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

FIRST_OUT_OF_MEMORY = "1000"
"""The kernel's highest `oom_score_adj`: before any process that has not asked for the same."""

WATCHMAN = 'read -r _; [ -z "$1" ] || rm -rf -- "$1"; kill -KILL 0'
"""Kills its process group once its standard input ends; its argument is a folder to take along."""


def begin(scratch: Path | None = None) -> None:
    """Set up this process as a child of the daemon. Call first, from the main thread.

    Args:
        scratch: A folder for temporary files, which goes with the child.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # whoever started it otherwise must not be killed with it
    subprocess.Popen(
        ["/bin/sh", "-c", WATCHMAN, "watchman", str(scratch or "")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # Ctrl+C in a terminal is for the viewer there, not for an engine that others use.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Where memory runs out, the kernel shall take this process before the daemon or anything
        # of the user's. A container may forbid that.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(FIRST_OUT_OF_MEMORY)
