"""The child process that speaks to the model hub.

`python -m potluck_worker.library.hub_host QUESTION`: the question is JSON, a `Question`. It answers
on standard output, each line a JSON object: `{"progress": Progress}` as it goes, at the end
`{"answer": …}` or `{"failure": {"code", "message", "fields"}}`.

A child, because what comes from the network is a stranger's, because a fetch is ended by ending it,
and because nobody else pays for the library's memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from potluck_proto import hub_token
from potluck_proto.errors import PotluckError, SettingsError
from potluck_proto.home import Home
from potluck_worker import child
from potluck_worker.engines.base import failure_of

MISSING = (
    "Searching and fetching models needs huggingface-hub, which is not installed on this machine. "
    "Install it there with: pip install 'potluck[hub]'"
)

SPEED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Question:
    """What the child is asked: one of three."""

    verb: Literal["search", "list", "pull"]
    name: str
    """Words to search for, or a repository."""
    home: str
    """Whose token counts."""
    limit: int = 0
    """Of a search."""
    variant: str = ""
    room_bytes: int | None = None
    downloads: str = ""
    models: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is."""

    variant: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: float = 0.0
    """Over the last seconds."""


class Reporter:
    """Prints progress, with the speed over the last `SPEED_SECONDS`."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def __call__(self, variant: str, done_bytes: int, total_bytes: int) -> None:
        """Print how far it is."""
        now = time.monotonic()
        self._seen = [seen for seen in self._seen if now - seen[0] <= SPEED_SECONDS]
        self._seen.append((now, done_bytes))
        (since, before), speed = self._seen[0], 0.0
        if now > since:
            speed = max(0.0, (done_bytes - before) / (now - since))
        say("progress", Progress(variant, done_bytes, total_bytes, speed))


def say(what: str, value: Any) -> None:
    """Print one line."""
    print(msgspec.json.encode({what: value}).decode(), flush=True)


def _answer(question: Question) -> Any:
    try:
        from potluck_worker.library.hub import Hub
        from potluck_worker.library.remote import variants
    except ImportError as error:
        raise SettingsError(MISSING) from error
    hub = Hub(hub_token.read(Home(Path(question.home))))
    if question.verb == "search":
        return hub.search(question.name, question.limit)
    if question.verb == "list":
        repository = hub.repository(question.name)
        return repository, variants(repository)
    return hub.pull(
        question.name,
        question.variant,
        question.room_bytes,
        Path(question.downloads),
        Path(question.models),
        Reporter(),
    )


def main() -> int:
    """Answer one question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("question", help="JSON")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    if options.lifeline:
        child.begin()
    try:
        say("answer", _answer(msgspec.json.decode(options.question, type=Question)))
    except PotluckError as error:
        say("failure", failure_of(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
