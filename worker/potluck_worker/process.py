"""A child of the daemon as a process: its pipes, its log, and all that must go with it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

import psutil

from potluck_worker.engine_log import EngineLog

log = logging.getLogger(__name__)

LEAVING_SECONDS = 2.0
"""What a child gets to end once its pipe did; and the kernel, to take down what was killed."""

_POLL_SECONDS = 0.01


class ChildProcess:
    """A running child: the leader of a process group, with a folder for its temporary files.

    `start` makes it. Whoever does must call `bury` once; after that nothing of it is left: no
    process of its group, no descriptor, no file beside the log. `child.py` is the other end.

    Attributes:
        reader: What comes from the child.
        writer: What goes there.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int, scratch: str) -> None:
        self._process = process
        self._lifeline = lifeline
        self._scratch = scratch
        self._logging: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, command: Sequence[str], environment: Mapping[str, str], engine_log: EngineLog
    ) -> ChildProcess:
        """Start `command --fd=N --scratch=FOLDER`; what it prints goes to the log.

        Raises `OSError` where it cannot be started; nothing is left then either.
        """
        with ExitStack() as on_failure, ExitStack() as child_ends:
            scratch = tempfile.mkdtemp(prefix=f"potluck-{os.getpid()}-")
            on_failure.callback(shutil.rmtree, scratch, ignore_errors=True)
            ours, theirs = socket.socketpair()
            on_failure.callback(ours.close)
            child_ends.callback(theirs.close)
            their_lifeline, lifeline = os.pipe()
            on_failure.callback(os.close, lifeline)
            child_ends.callback(os.close, their_lifeline)
            output, their_output = os.pipe()
            on_failure.callback(os.close, output)
            child_ends.callback(os.close, their_output)
            process = await asyncio.create_subprocess_exec(
                *command,
                f"--fd={theirs.fileno()}",
                f"--scratch={scratch}",
                pass_fds=[theirs.fileno()],
                stdin=their_lifeline,
                stdout=their_output,
                stderr=their_output,
                env={**environment, "TMPDIR": scratch},
                start_new_session=True,
            )
            on_failure.pop_all()
        child = cls(process, lifeline, scratch)
        child._logging = asyncio.create_task(engine_log.keep(output))
        child.reader, child.writer = await asyncio.open_connection(sock=ours)
        return child

    @property
    def id(self) -> int:
        """The process id, which is the group's as well."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the child and all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.id, signal.SIGKILL)

    async def bury(self) -> int:
        """Wait for the child's end, take down what is left of it, and return its exit code.

        A child that lives on without its pipe is killed.
        """
        assert self._logging is not None
        if not await self._ended():
            self.kill()
            if not await self._ended():
                log.error("process %d does not go although it was killed", self.id)
        await self._end_group()
        os.close(self._lifeline)
        await asyncio.wait([self._logging], timeout=LEAVING_SECONDS)
        self._logging.cancel()
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        return -signal.SIGKILL if self._process.returncode is None else self._process.returncode

    async def _ended(self) -> bool:
        try:
            async with asyncio.timeout(LEAVING_SECONDS):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    async def _end_group(self) -> None:
        """Kill what the child has left behind, and see it gone."""
        for _ in range(round(LEAVING_SECONDS / _POLL_SECONDS)):
            if not _kill_group(self.id):
                return
            await asyncio.sleep(_POLL_SECONDS)
            # Only zombies may be left, which hold nothing: some first processes are slow to reap.
            if not await asyncio.to_thread(group_lives, self.id):
                return


def _kill_group(leader: int) -> bool:
    """Kill what is left of a group whose leader was reaped; say whether there was anything."""
    try:
        os.killpg(leader, signal.SIGKILL)
        # As process 1 of a container, the daemon inherits what a child leaves behind.
        os.waitpid(-leader, os.WNOHANG)
    except ChildProcessError:
        return True
    except (ProcessLookupError, PermissionError):
        return False
    return True


def group_lives(group: int) -> bool:
    """Say whether a group has a process that is not a zombie."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
