"""The child process that reads model files.

`python -m potluck_worker.inspect_host VERB [QUESTION]`: the question is JSON, and so is the answer,
on standard output. Files are untrusted, so the process limits itself.

| verb | question | answer |
| --- | --- | --- |
| `describe` | `sizing.Question` | `sizing.Described`: what the file says, how this node holds it |
| `plan` | `sizing.Question` | `sizing.Plan`: how this node holds it |
| `fit` | `sizing.Question` | `sizing.Fit`: what it takes in one way, and what would fit |
| `cards` | none | a list of `sizing.Card`: the cards that the engine sees |
| `architectures` | none | a list of names: those of `gguf_names.py` that llama.cpp knows |

A failure is `{"failure": {"code", "message", "fields"}}`.

What a file is, its name says: `open_model` has a line for each engine. Sizes of a GGUF file come
from llama.cpp; those of a checkpoint are reckoned from its headers, since vLLM is not asked in less
than half a minute.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from potluck_proto.errors import PotluckError
from potluck_worker import child, engine_host
from potluck_worker.engines import ways
from potluck_worker.engines.base import failure_of
from potluck_worker.engines.fake import FAKE_SUFFIX, FakeModel, FakeSizer
from potluck_worker.engines.gguf_names import GGUF_NAMES
from potluck_worker.engines.inspection import Inspection
from potluck_worker.engines.llama import require_library
from potluck_worker.engines.sizing import Card, Described, Fit, Plan, Question, Room, Sizer

CPU_LIMIT_SECONDS = 60

AS_LARGE_AS = engine_host
"""Imported so that this process is as large as an engine's child is without its model: what it
measures of itself goes into the estimates."""

MEMORY_LIMIT_BYTES = 4 * 2**30
"""What the process may write to: a dry run takes some 100 MB, and a graphics driver a few more. The
limit is on data and not on addresses, of which drivers reserve as many as there are."""

Opened = tuple[Sizer, Callable[[], Inspection]]
"""A file to be asked for sizes, and what it says of itself."""


def open_model(question: Question) -> Opened:
    """Open a file with the engine that runs it. Raises `PotluckError`."""
    path = Path(question.path)
    if path.name.endswith(FAKE_SUFFIX):
        model = FakeModel.read(path)
        return FakeSizer(model), lambda: model.inspect(path)
    return _open_checkpoint(path, question.room) if path.is_dir() else _open_gguf(path)


def _open_gguf(path: Path) -> Opened:
    require_library()
    from potluck_worker.engines.llama import library
    from potluck_worker.engines.llama.sizer import LlamaSizer

    sizer = LlamaSizer(path, library.start())

    def inspect() -> Inspection:
        # Loaded after the sizer has measured this process.
        from potluck_worker.engines.llama import description

        return description.inspect(path, sizer.model)

    return sizer, inspect


def _open_checkpoint(folder: Path, room: Room) -> Opened:
    from potluck_worker.engines.vllm.checkpoint import Checkpoint
    from potluck_worker.engines.vllm.sizer import VllmSizer

    checkpoint = Checkpoint.read(folder)
    return VllmSizer(checkpoint, room), checkpoint.inspect


def describe(question: Question) -> Described:
    """Return what a file says of itself, and how this node holds it. Raises `PotluckError`."""
    sizer, inspect = open_model(question)
    return Described(inspect(), _plan(sizer, question))


def plan(question: Question) -> Plan:
    """Return how this node holds a file. Raises `PotluckError`."""
    sizer, _ = open_model(question)
    return _plan(sizer, question)


def _plan(sizer: Sizer, question: Question) -> Plan:
    # The settings are for all models; none gets a longer context than it was trained for.
    longest, asked = sizer.training_context_length, question.options.context_length or 0
    options = replace(question.options, context_length=min(asked, longest))
    return ways.plan(sizer, options, question.room, shorten=question.shorten)


def fit(question: Question) -> Fit:
    """Return what a file takes in one way, and what would fit. Raises `PotluckError`."""
    sizer, _ = open_model(question)
    return ways.fit(sizer, question.options, question.room)


def cards() -> Sequence[Card]:
    """Return the cards that the engine sees. Raises `EngineMissing`."""
    require_library()
    from potluck_worker.engines.llama import devices, library

    library.start()
    return devices.cards()


def architectures() -> Sequence[str]:
    """Return which of the architectures llama.cpp knows. Raises `EngineMissing`."""
    require_library()
    from potluck_worker.engines.llama import library
    from potluck_worker.engines.llama.architectures import known

    return known(sorted(set(GGUF_NAMES.values())), library.start())


GENERAL: Mapping[str, Callable[[], Any]] = {"cards": cards, "architectures": architectures}
"""What is asked of the engine and not of a file."""

VERBS: Mapping[str, Callable[[Question], Any]] = {"describe": describe, "plan": plan, "fit": fit}


def _limit(kind: int, most: int) -> None:
    """Let the system hold this process to a limit, or to a stricter one that it has already."""
    _, hard = resource.getrlimit(kind)
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (limit, limit))


def main() -> int:
    """Answer one question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=[*VERBS, *GENERAL])
    parser.add_argument("question", nargs="?", help="JSON")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    if options.lifeline:
        child.begin()
    _limit(resource.RLIMIT_CPU, CPU_LIMIT_SECONDS)
    _limit(resource.RLIMIT_DATA, MEMORY_LIMIT_BYTES)
    try:
        answer: Any = _answer(options)
    except PotluckError as error:
        answer = {"failure": failure_of(error)}
    print(msgspec.json.encode(answer).decode())
    return 0


def _answer(options: argparse.Namespace) -> Any:
    if options.verb in GENERAL:
        return GENERAL[options.verb]()
    return VERBS[options.verb](msgspec.json.decode(options.question, type=Question))


if __name__ == "__main__":
    sys.exit(main())
