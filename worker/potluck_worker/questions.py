"""Asking the child that reads model files: see `inspect_host.py`, which is the other end."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

from potluck_proto.errors import ModelFileError
from potluck_worker.engines.base import Failure, error_of
from potluck_worker.engines.sizing import Question

ANSWER_SECONDS = 60.0
"""A file that takes longer to read is refused."""


async def ask(verb: str, question: Question | None = None, name: str = "the file") -> Any:
    """Return the answer to one question, as plain data.

    Args:
        verb: One of `inspect_host.py`'s.
        question: What to ask.
        name: What it is about, for a person.

    Raises:
        PotluckError: The file cannot be used; or the child died of it, or took too long.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "potluck_worker.inspect_host",
        verb,
        *([json.dumps(asdict(question))] if question else []),
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
        answer = json.loads(output)
    except ValueError:
        raise ModelFileError(
            f"{name} is damaged: the engine crashed on it. Download it again."
        ) from None
    if "failure" in answer:
        raise error_of(Failure(**answer["failure"]))
    return answer
