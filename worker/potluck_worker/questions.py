"""Asking the child that reads model files: see `inspect_host.py`, which is the other end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from potluck_proto.errors import ModelFileError, PotluckError
from potluck_worker.child_output import output_of
from potluck_worker.engines.base import Failure, error_of
from potluck_worker.engines.sizing import Question

ANSWER_SECONDS = 60.0
"""A file that takes longer to read is refused."""

Answer = TypeVar("Answer")


async def ask(verb: str, kind: type[Answer], question: Question | None = None) -> Answer:
    """Return the answer to one question.

    Args:
        verb: One of `inspect_host.py`'s.
        kind: What the answer is.
        question: What to ask; what is asked of the engine itself needs none.

    Raises:
        PotluckError: The file cannot be used; or the child died of it, or took too long.
    """
    name = Path(question.path).name if question else f"The engine's list of {verb}"
    command = [sys.executable, "-m", "potluck_worker.inspect_host", "--lifeline", verb]
    if question:
        command.append(msgspec.json.encode(question).decode())
    try:
        output = await output_of(command, ANSWER_SECONDS)
    except TimeoutError:
        raise ModelFileError(f"{name} could not be read within a minute.") from None
    try:
        return msgspec.json.decode(output, type=kind)
    except msgspec.MsgspecError:
        raise _failure(output, name) from None


def _failure(output: bytes, name: str) -> PotluckError:
    """Return what a child says instead of an answer, if it says anything."""
    try:
        return error_of(msgspec.json.decode(output, type=dict[str, Failure])["failure"])
    except (msgspec.MsgspecError, KeyError):
        return ModelFileError(f"{name} is damaged: the engine crashed on it. Download it again.")
