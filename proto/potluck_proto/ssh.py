"""Reaching another machine through the user's own `ssh`.

So its configuration, agent, jump hosts and host keys count, no port is open there, and there is no
second password.

One `ssh` connects, and asks what it must ask once; commands and forwarded sockets share its
connection (`ControlMaster`, at a socket of our own).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from potluck_proto.errors import AddressError, SshError

log = logging.getLogger(__name__)

SSH_SCHEME: Final = "ssh://"

START_SECONDS = 45.0
"""How long ssh has to connect, where nobody can be asked for a password."""

REMOTE_IDLE_SECONDS = 1_800
"""What was started there for this tunnel goes away after so long without use."""

CLOSE_SECONDS = 2.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 5.0
WORDS_LIMIT = 1_200
NOT_FOUND = 127
"""What a shell ends with where there is no such command."""

_READY: Final = b"potluck-ready"

_TARGET = re.compile(
    r"ssh://(?:[\w.+-]+@)?(?:[A-Za-z0-9_](?:[\w.-]*\w)?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
)

OPTIONS = (
    # A path that broke is noticed within 15 seconds; what rides it notices before.
    *("-o", "ServerAliveInterval=5"),
    *("-o", "ServerAliveCountMax=3"),
    *("-o", "ConnectTimeout=10"),
    *("-o", "StreamLocalBindUnlink=yes"),
    # What else the configuration wants of a session is for sessions of people.
    *("-o", "RemoteCommand=none"),
    *("-o", "RequestTTY=no"),
    *("-o", "ForwardAgent=no"),
    *("-o", "ForwardX11=no"),
)

# A ^C in the terminal ends the answer or the command, and not the way to tell that there.
_WITHOUT_INTERRUPTS = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")

# ssh ends with us, as it reads our pipe. If we were killed, nobody else takes our folder away; we
# may be a zombie then (Z) that nobody has buried yet.
_WITH_FOLDER = """trap "" INT HUP
exec 3<&0
"$@" <&3 3<&- &
ssh=$!
exec 3<&-
trap "kill $ssh" TERM
wait $ssh
wait $ssh
kill -0 $PPID 2>/dev/null && ! grep -qs ") Z " /proc/$PPID/stat || rm -rf "$0"
"""


def ssh_address(target: str) -> str:
    """Return `ssh://user@host[:port]` for that or for `user@host[:port]`. Raises `AddressError`."""
    address = target if target.startswith(SSH_SCHEME) else SSH_SCHEME + target
    if not _TARGET.fullmatch(address):
        raise AddressError(f"{target!r} is no address for ssh; write USER@HOST or USER@HOST:PORT.")
    return address


def own_words(text: str) -> str:
    """Return what ssh said as a paragraph: its warnings come in frames."""
    lines = (line.strip("@ \t\r") for line in text.splitlines())
    return " ".join(" ".join(filter(None, lines)).split())[-WORDS_LIMIT:]


class Session:
    """One connection of the user's ssh, over which commands run and sockets are forwarded.

    It ends with this process: what runs at its other end reads our pipe.

    Args:
        target: USER@HOST[:PORT], with or without `ssh://`. Raises `AddressError`.
        ask: Whether ssh may ask for a password or about a new host; it does so at the terminal.
    """

    def __init__(self, target: str, *, ask: bool) -> None:
        self.address = ssh_address(target)
        self.ask = ask
        self.folder = Path(tempfile.mkdtemp(prefix="potluck-"))
        self._control = str(self.folder / "c")
        self._words = self.folder / "words"
        self._process: asyncio.subprocess.Process | None = None

    async def open(self) -> None:
        """Connect. Raises `SshError` with ssh's own words."""
        await self._end()
        with self._words.open("wb") as words:
            self._process = process = await asyncio.create_subprocess_exec(
                *("sh", "-c", _WITH_FOLDER, str(self.folder)),
                *("ssh", "-M", "-S", self._control, *OPTIONS),
                *("-o", "ControlPersist=no", "-o", "ClearAllForwardings=yes"),
                *("-o", f"BatchMode={'no' if self.ask else 'yes'}"),
                self.address,
                f"echo {_READY.decode()}; exec cat >/dev/null",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=words,
            )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(None if self.ask else START_SECONDS):
                # What a login shell there says to everybody may come before.
                while (line := await process.stdout.readline()).strip() != _READY:
                    if not line:
                        await process.wait()
                        raise self._failure("it ended without a word")
        except TimeoutError:
            words_so_far = f"no answer within {START_SECONDS:.0f} seconds"
            raise self._failure(words_so_far) from None

    async def run(self, script: str, given: bytes = b"") -> tuple[int, str, str]:
        """Run a script of the plain shell there; return its exit code, output and complaints."""
        quoted = script.replace("'", "'\\''")
        shell = f"exec sh -c 'PATH=\"$HOME/.local/bin:$PATH\"; export PATH; {quoted}'"
        return await self._ssh(shell, given=given)

    async def forward(self, here: Path, there: str) -> None:
        """Make a socket here that is a socket there. Raises `SshError`."""
        code, _, said = await self._ssh(options=("-O", "forward", "-L", f"{here}:{there}"))
        if code:
            raise self._failure(own_words(said))

    async def ended(self) -> None:
        """Return when the connection is no more."""
        if self._process is not None:
            await self._process.wait()

    async def close(self) -> None:
        """End ssh, and leave nothing behind."""
        await self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _ssh(
        self, *command: str, options: tuple[str, ...] = (), given: bytes = b""
    ) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *_WITHOUT_INTERRUPTS,
            *("ssh", "-S", self._control, *OPTIONS, "-o", "BatchMode=yes", *options),
            self.address,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await process.communicate(given)
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace"), said.decode(errors="replace")

    def _failure(self, otherwise: str) -> SshError:
        """Return what ssh said, or what else went wrong."""
        words = own_words(self._words.read_text(errors="replace")) or otherwise
        return SshError(f"{self.address} was not reached. ssh: {words}")

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class Tunnel:
    """A socket here that is a daemon's socket there; the daemon is started if it does not run.

    Args:
        target: USER@HOST[:PORT], with or without `ssh://`. Raises `AddressError`.
        daemon: `worker` or `scheduler`; with a scheduler goes a worker.
        ask: Whether ssh may ask for a password or about a new host; it does so at the terminal.
    """

    def __init__(self, target: str, daemon: str, *, ask: bool = False) -> None:
        self._session = Session(target, ask=ask)
        self._daemon = daemon
        self.socket = self._session.folder / "s"

    async def __aenter__(self) -> Path:
        """Open it; return the socket here. Raises `SshError` with ssh's own words."""
        try:
            await self._open()
        except BaseException:
            await self._session.close()
            raise
        return self.socket

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self._session.close()

    async def keep_open(self, problem: Callable[[str], object]) -> None:
        """Open it again whenever it breaks, for ever. Nobody is asked for anything from now on.

        Args:
            problem: Called with ssh's own words when it does not get there, once for each kind.
        """
        self._session.ask = False
        delay_seconds, said = FIRST_RETRY_SECONDS, ""
        while True:
            await self._session.ended()
            try:
                await self._open()
                delay_seconds, said = FIRST_RETRY_SECONDS, ""
            except SshError as error:
                if error.message != said:
                    said = error.message
                    problem(said)
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(delay_seconds * 2, LONGEST_RETRY_SECONDS)

    async def _open(self) -> None:
        await self._session.open()
        await self._session.forward(self.socket, await self._remote_socket())

    async def _remote_socket(self) -> str:
        """Start the daemon there if need be; return where its socket is."""
        only = "" if self._daemon == "scheduler" else f"--only {self._daemon} "
        script = f"potluck up {only}--idle-exit {REMOTE_IDLE_SECONDS} --json"
        code, out, said = await self._session.run(script)
        if code == NOT_FOUND:
            target = self._session.address.removeprefix(SSH_SCHEME)
            raise SshError(
                f"There is no `potluck` at {target}. Install it there with "
                f"`potluck install --ssh {target}`."
            )
        for line in out.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found = json.loads(line)[self._daemon]["socket"]
                if isinstance(found, str) and found.startswith("/") and ":" not in found:
                    return found
        words = own_words(said or out)
        raise SshError(f"Potluck did not start at {self._session.address}: {words or 'no word'}")
