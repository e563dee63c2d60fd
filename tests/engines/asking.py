"""Asking the child that reads model files, as the daemon does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from potluck_worker.engines.sizing import HOST, Described, Fit, Options, Plan, Question, Room

AMPLE = Room({HOST: 2**50})


def question(path: Path, options: Options, room: Room = AMPLE, **more: bool) -> str:
    """Return a question as the child reads it."""
    return msgspec.json.encode(Question(str(path), options, room, **more)).decode()


def ask(verb: str, path: Path, options: Options, room: Room = AMPLE, **more: bool) -> Any:
    """Return an answer as plain data."""
    result = subprocess.run(
        [
            sys.executable,
            *("-m", "potluck_worker.inspect_host"),
            *(verb, question(path, options, room, **more)),
        ],
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(result.stdout)


def described(path: Path, options: Options, room: Room = AMPLE) -> Described:
    """Return what a file says of itself, and the plan for it."""
    return msgspec.convert(ask("describe", path, options, room), Described)


def planned(path: Path, options: Options, room: Room = AMPLE, *, shorten: bool = True) -> Plan:
    """Return how a node would hold a file."""
    return msgspec.convert(ask("plan", path, options, room, shorten=shorten), Plan)


def fitted(path: Path, options: Options, room: Room = AMPLE) -> Fit:
    """Return whether a file fits, and what would."""
    return msgspec.convert(ask("fit", path, options, room), Fit)
