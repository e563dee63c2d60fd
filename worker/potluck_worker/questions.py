"""Asking the child that reads model files: see `inspect_host.py`, which is the other end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from potluck_proto.errors import ModelFileError, PotluckError
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
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "potluck_worker.inspect_host",
        verb,
        *([msgspec.json.encode(question)] if question else []),
        "--lifeline",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            output = await child.stdout.read()
    except TimeoutError:
        raise ModelFileError(f"{name} could not be read within a minute.") from None
    finally:
        child.stdin.close()  # the end of this pipe is the end of the child: see `child.py`
        await child.wait()
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
