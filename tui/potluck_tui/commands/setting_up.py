"""`potluck install`: set this version up on another machine, through the user's own ssh."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from pathlib import Path

from potluck_proto.errors import SetupError, SshError
from potluck_proto.home import Home
from potluck_proto.ssh import SSH_SCHEME, Session, own_words
from potluck_tui.clean import clean
from potluck_tui.wheel import make_wheel, pinned_versions

PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14", "python3")

FOLDER = "$HOME/.local/share/potluck-program"
"""Where it is installed there, apart from the home with models and chats."""

FIND_PYTHON = """
for python in {pythons}; do
    command -v "$python" >/dev/null || continue
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \\
        && {{ command -v "$python"; exit 0; }}
done
exit 1
"""

FIND_COMPILER = "command -v c++ || command -v g++ || command -v clang++"

INSTALL = """
set -e
mkdir -p {folder} "$HOME/.local/bin"
{python} -m venv --clear {folder}/venv
cd {folder}
{folder}/venv/bin/python -m pip install --quiet --disable-pip-version-check \\
    --constraint constraints.txt "./{wheel}[llama]"
for program in potluck potluck-worker potluck-scheduler; do
    ln -sf {folder}/venv/bin/$program "$HOME/.local/bin/$program"
done
"""


async def install(options: argparse.Namespace, home: Home) -> int:
    """Check what there is, copy this version there, install it, start it, and say each step."""
    session = Session(options.ssh, ask=True)
    try:
        _say(f"Connecting to {session.address.removeprefix(SSH_SCHEME)} with your own ssh...")
        await session.open()
        python = await _python(session)
        await _compiler(session)
        wheel = await _copy(session)
        _say("Installing, in a folder of its own (compiling the engine takes several minutes)...")
        folder = f'"{FOLDER}"'
        script = INSTALL.format(folder=folder, python=shlex.quote(python), wheel=wheel)
        await _run(session, script, "The installation failed")
        _say(await _run(session, "potluck --version", "The program does not run"))
        _say("Installing the worker as a service...")
        _say(await _run(session, "potluck service install --only worker", "It does not start"))
    finally:
        await session.close()
    target = options.ssh.removeprefix(SSH_SCHEME)
    _say(
        f"Done. Use it here with `potluck nodes add ssh://{target}`, or pair it: `potluck invite` "
        "here, `potluck join` there."
    )
    return 0


async def _python(session: Session) -> str:
    """Return a Python there that is new enough."""
    code, out, _ = await session.run(FIND_PYTHON.format(pythons=" ".join(PYTHONS)))
    if code:
        raise SetupError(
            "There is no Python 3.11 or newer there with its venv module. Debian, Ubuntu: "
            "apt install python3 python3-venv    Fedora: dnf install python3"
        )
    python = out.strip().splitlines()[-1]
    _say(f"Python: {python}")
    return python


async def _compiler(session: Session) -> None:
    """See that the engine can be compiled there."""
    code, out, _ = await session.run(FIND_COMPILER)
    if code:
        raise SetupError(
            "There is no C++ compiler there, for the engine. Debian, Ubuntu: apt install "
            "build-essential    Fedora: dnf install gcc-c++    macOS: xcode-select --install"
        )
    _say(f"C++ compiler: {out.strip().splitlines()[0]}")


async def _copy(session: Session) -> str:
    """Copy this very version there; return the name of its file."""
    wheel: Path = await asyncio.to_thread(make_wheel, session.folder)
    content = await asyncio.to_thread(wheel.read_bytes)
    _say(f"Copying {wheel.name} ({len(content) / 2**20:.1f} MiB)...")
    folder = f'"{FOLDER}"'
    await _run(
        session,
        f"mkdir -p {folder} && cat >{folder}/{wheel.name}",
        "The copy failed",
        content,
    )
    versions = "\n".join(pinned_versions()).encode()
    await _run(session, f"cat >{folder}/constraints.txt", "The copy failed", versions)
    return wheel.name


async def _run(session: Session, script: str, problem: str, given: bytes = b"") -> str:
    code, out, said = await session.run(script, given)
    if code:
        raise SshError(f"{problem} at {session.address}: {own_words(said or out)}")
    return out.strip()


def _say(words: str) -> None:
    print(clean(words), file=sys.stderr, flush=True)
