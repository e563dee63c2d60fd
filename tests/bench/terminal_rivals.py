"""What the terminal costs beside elia, oterm and parllama, in a pty of 80x24 each.

All show the same answer at the same pace: Potluck's comes from a fake scheduler, theirs from a
stand-in for Ollama. Each rival is installed once, into `build/rivals`, and starts in a new home in
which it asks nothing. `terminal.md` has a table of one run and says what its rows mean.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import ollama_stub
from bench.pty_program import PtyProgram
from bench.table import row
from bench.terminal import (
    ANSWER,
    LIMIT_SECONDS,
    READY,
    REPEATS,
    ROOT,
    SILENCE_SECONDS,
    TOKENS_PER_SECOND,
    answer_cost,
    environment,
    fake_pool,
)
from tui.fake_scheduler import Reply

VENVS = ROOT / "build" / "rivals"
SETTLE_SECONDS = 3.0
"""After the first screen; much of what a program loads then takes keys from it."""

FIRST_ANSWER = "Understood."
ANSWERS = ([FIRST_ANSWER], ANSWER)
"""Of one chat. What a program loads late, it loads for the first, which is not measured."""


@dataclass(frozen=True, slots=True)
class Side:
    """A program that is measured.

    Attributes:
        command: What starts it.
        variables: Its environment.
        painted: Words of its first screen.
        ready: Words that it shows when a question can be asked.
        send: The key that sends a question.
    """

    command: Sequence[str]
    variables: Mapping[str, str]
    painted: bytes
    ready: bytes
    send: bytes = b"\r"


@dataclass(slots=True)
class Figures:
    """What was measured, of each run."""

    bytes_a_token: list[float] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)
    start_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rival:
    """A package that is installed by pip, and how to set it up in a home for a server."""

    package: str
    version: str
    set_up: Callable[[Path, Path, str], Side]
    """Takes its folder of programs, its home, and the server's address."""

    @property
    def name(self) -> str:
        """What it is called in a row."""
        return f"{self.package} {self.version}"

    def programs(self) -> Path:
        """Return the folder of its programs, installed where it was not. Raises `OSError`."""
        venv = VENVS / f"{self.package}-{self.version}"
        ready = venv / ".ready"
        if not ready.exists():
            print(f"Installing {self.name} (once)...", file=sys.stderr)
            pip = [str(venv / "bin" / "pip"), "install", "--quiet"]
            for command in (
                [sys.executable, "-m", "venv", "--clear", str(venv)],
                [*pip, f"{self.package}=={self.version}"],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise OSError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
            ready.touch()
        return venv / "bin"


def set_up_elia(programs: Path, home: Path, server: str) -> Side:
    """Have elia talk to the server."""
    config = home / ".config" / "elia" / "config.toml"
    config.parent.mkdir(parents=True)
    name = '"ollama_chat/tiny"'
    config.write_text(f'default_model = {name}\n[[models]]\nname = {name}\napi_base = "{server}"\n')
    variables = environment(ssh=False) | {"HOME": str(home)}
    words = b"Welcome to Elia"
    return Side([str(programs / "elia")], variables, words, words, send=b"\n")


OTERM_CHAT = """
import asyncio
from oterm.store.store import Store
from oterm.types import ChatModel

async def save():
    await (await Store.get_store()).save_chat(ChatModel(name="chat", model="%s"))

asyncio.run(save())
"""
"""Saves an empty chat: otherwise oterm begins with a dialog."""


def set_up_oterm(programs: Path, home: Path, server: str) -> Side:
    """Have oterm talk to the server, and open on a chat."""
    (home / "config.json").write_text(json.dumps({"splash-screen": False}))
    more = {"HOME": str(home), "OTERM_DATA_DIR": str(home), "OLLAMA_URL": server}
    variables = environment(ssh=False) | more
    save = [str(programs / "python"), "-c", OTERM_CHAT % ollama_stub.MODEL]
    subprocess.run(save, check=True, capture_output=True, env=variables)
    return Side([str(programs / "oterm")], variables, b"the terminal LLM client", b"submit")


def set_up_parllama(programs: Path, home: Path, server: str) -> Side:
    """Have parllama talk to the server, and open on its chat."""
    settings = {
        "schema_version": 2,
        "ui": {"show_first_run": False},
        "last_llm_config": {"provider": "Ollama", "model_name": ollama_stub.MODEL},
        "provider": {"provider_base_urls": {"Ollama": server}},
    }
    (home / "settings.json").write_text(json.dumps(settings))
    options = ("--starting-tab", "chat", "--use-last-tab-on-startup", "0", "--ps-poll", "0")
    command = [str(programs / "parllama"), "-d", str(home), "-u", server, *options]
    variables = environment(ssh=False) | {"HOME": str(home)}
    return Side(command, variables, b"PAR LLAMA", b"Type a message")


RIVALS = (
    Rival("elia-chat", "1.10.0", set_up_elia),
    Rival("oterm", "0.26.1", set_up_oterm),
    Rival("parllama", "0.10.1", set_up_parllama),
)


@contextmanager
def potluck(*, ssh: bool) -> Iterator[Side]:
    """Yield Potluck's own terminal."""
    with fake_pool([Reply(pieces, 1 / TOKENS_PER_SECOND) for pieces in ANSWERS]) as (command, _):
        yield Side(command, environment(ssh=ssh), b"sk something", READY)


@contextmanager
def rival_side(rival: Rival, programs: Path, server: str) -> Iterator[Side]:
    """Yield a rival in a new home."""
    with tempfile.TemporaryDirectory(prefix="pl-", ignore_cleanup_errors=True) as home:
        yield rival.set_up(programs, Path(home), server)


def measure(side: Side, figures: Figures) -> None:
    """Start a program, and have it show an answer. Raises `TimeoutError`."""
    program = PtyProgram(side.command, side.variables)
    try:
        painted = program.read_until(lambda seen: side.painted in seen, LIMIT_SECONDS)
        program.read_until(lambda seen: side.ready in seen, LIMIT_SECONDS)
        program.read_for(SETTLE_SECONDS)
        program.type(b"Ready?")
        program.read_for(SILENCE_SECONDS)  # some take an Enter right behind text for a pasted one
        program.type(side.send)
        program.read_until(lambda seen: FIRST_ANSWER.encode() in seen, LIMIT_SECONDS)
        program.type(b"How big?")
        program.read_for(SILENCE_SECONDS)
        bytes_a_token, share = answer_cost(program, side.send)
    finally:
        program.close()
    figures.start_ms.append(1000 * (painted - program.started))
    figures.bytes_a_token.append(bytes_a_token)
    figures.cpu_percent.append(100 * share)


def main() -> None:
    """Print a row for each figure of Potluck beside each rival."""
    figures: dict[str, Figures] = {}
    failures: dict[str, str] = {}
    with ollama_stub.serving(ANSWERS, TOKENS_PER_SECOND) as server:
        sides: dict[str, Callable[[], AbstractContextManager[Side]]] = {
            "Potluck, local": partial(potluck, ssh=False),
            "Potluck, ssh": partial(potluck, ssh=True),
        }
        for rival in RIVALS:
            try:
                sides[rival.name] = partial(rival_side, rival, rival.programs(), server)
            except OSError as error:
                failures[rival.name] = f"cannot be installed: {error}"
        for _ in range(REPEATS):
            for name in [name for name in sides if name not in failures]:
                try:
                    with sides[name]() as side:
                        measure(side, figures.setdefault(name, Figures()))
                except (TimeoutError, subprocess.CalledProcessError) as error:
                    failures[name] = f"cannot be driven: {error}"
    show(figures, failures)


def show(figures: Mapping[str, Figures], failures: Mapping[str, str]) -> None:
    """Print what came of it."""
    for rival in RIVALS:
        if rival.name in failures:
            print(f"{rival.name} {failures[rival.name]}")
            continue
        for ours in ("Potluck, local", "Potluck, ssh"):
            mine, theirs = figures[ours], figures[rival.name]
            title = f"{ours} | {rival.name}"
            row(f"bytes a token, {title}", mine.bytes_a_token, theirs.bytes_a_token, "bytes")
            row(f"CPU at 100 tokens/s, {title}", mine.cpu_percent, theirs.cpu_percent, "%")
            row(f"first paint, {title}", mine.start_ms, theirs.start_ms, "ms")


if __name__ == "__main__":
    main()
