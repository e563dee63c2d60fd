"""Models on their way from the hub to this node: started, followed, stopped, taken in.

A pull belongs to the worker and not to who asked for it: viewers come and go, and one that asks for
what is under way follows it. Files grow where nothing is listed; when all of them are whole, they
are moved among the models while nobody looks there.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from potluck_proto.errors import HubError
from potluck_proto.home import Home
from potluck_worker.engines.base import Failure, error_of
from potluck_worker.engines.sizing import Room
from potluck_worker.library.hashes import Hashes
from potluck_worker.library.hub_host import Progress, Question
from potluck_worker.library.remote import Repository, Variant, unreachable
from potluck_worker.library.staging import take_in
from potluck_worker.models import ModelStore
from potluck_worker.stored_model import StoredModel

ANSWER_SECONDS = 10.0
"""A hub that says nothing for so long is given up: nobody waits longer to hear that."""

FOLLOW_SECONDS = 0.5
LINE_LIMIT_BYTES = 2**24

Answer = TypeVar("Answer")


class Fetched(msgspec.Struct, frozen=True):
    """What a child that pulls answers: see `hub.Fetched`."""

    staging: str
    variant: Variant
    repository: str
    revision: str


@dataclass(slots=True)
class Pull:
    """A model on its way here."""

    repository: str
    wanted: str
    progress: Progress = field(default_factory=Progress)
    task: asyncio.Task[StoredModel] | None = None


class Pulls:
    """The hub, as one node uses it.

    Args:
        home: Where the token is, and models go.
        store: The models.
        hashes: Learns those of what was fetched.
        room: Returns what a model may take in memory.
        changed: Called when a pull began or ended.
    """

    def __init__(
        self,
        home: Home,
        store: ModelStore,
        hashes: Hashes,
        room: Callable[[], Room],
        changed: Callable[[], None],
    ) -> None:
        self._home = home
        self._store = store
        self._hashes = hashes
        self._room = room
        self._changed = changed
        self._pulls: dict[tuple[str, str], Pull] = {}

    @property
    def under_way(self) -> list[Pull]:
        """Models on their way here."""
        return list(self._pulls.values())

    @property
    def room_bytes(self) -> int:
        """What a model may take of all memory of this node."""
        room = self._room()
        return sum(size for device, size in room.free_bytes.items() if device not in room.unified)

    async def search(self, query: str, limit: int) -> list[Repository]:
        """Return repositories, the most fetched first. Raises `PotluckError`."""
        question = self._question("search", query, limit=limit)
        return await self._ask(question, list[Repository])

    async def list_repository(self, name: str) -> tuple[Repository, list[Variant]]:
        """Return a repository and what can be fetched of it. Raises `PotluckError`."""
        question = self._question("list", name)
        return await self._ask(question, tuple[Repository, list[Variant]])

    def start(self, repository: str, wanted: str) -> Pull:
        """Begin to fetch a model, unless that is under way."""
        key = repository.lower(), wanted.lower()
        if (known := self._pulls.get(key)) is not None:
            return known
        pull = self._pulls[key] = Pull(repository, wanted)
        pull.task = asyncio.create_task(self._fetch(pull))

        def forget(task: asyncio.Task[StoredModel]) -> None:
            self._pulls.pop(key)
            self._changed()
            if not task.cancelled():
                task.exception()  # whoever follows hears of it; without anybody it is no warning

        pull.task.add_done_callback(forget)
        self._changed()
        return pull

    async def follow(self, pull: Pull) -> AsyncIterator[Progress]:
        """Yield how far a pull is, until it is done. Leaving does not end it."""
        assert pull.task is not None
        while not pull.task.done():
            yield pull.progress
            await asyncio.wait([pull.task], timeout=FOLLOW_SECONDS)

    @staticmethod
    async def result(pull: Pull) -> StoredModel:
        """Return the model that came. Raises `PotluckError`."""
        assert pull.task is not None
        await asyncio.wait([pull.task])
        if pull.task.cancelled():
            raise HubError(
                f"The fetch of {pull.repository} was stopped. What came is kept for the next time; "
                "`potluck prune` deletes it."
            )
        return pull.task.result()

    async def stop(self, repository: str, wanted: str) -> None:
        """End a pull, if there is one; what came is kept.

        Args:
            repository: As it was asked for; case does not matter, here and below.
            wanted: As it was asked for, or what was chosen where nothing was.
        """
        called = repository.lower(), wanted.lower()
        for key, pull in [*self._pulls.items()]:
            chosen = pull.repository.lower(), pull.progress.variant.lower()
            if called in (key, chosen) and pull.task is not None:
                pull.task.cancel()
                await asyncio.wait([pull.task])

    async def close(self) -> None:
        """End all pulls."""
        for pull in self.under_way:
            await self.stop(pull.repository, pull.wanted)

    async def _fetch(self, pull: Pull) -> StoredModel:
        question = self._question(
            "pull",
            pull.repository,
            variant=pull.wanted,
            room_bytes=self.room_bytes,
            downloads=str(self._home.downloads),
            models=str(self._home.models),
        )

        def keep(progress: Progress) -> None:
            pull.progress = progress

        fetched = await _converse(question, Fetched, keep)
        return await asyncio.shield(self._take_in(fetched))

    async def _take_in(self, fetched: Fetched) -> StoredModel:
        """Put what came among the models."""
        variant = fetched.variant
        sha256 = {file.local_name: file.sha256 for file in variant.files}
        await take_in(
            self._home,
            self._store,
            self._hashes,
            staging=Path(fetched.staging),
            folder=variant.folder,
            sha256=sha256,
        )
        first = self._home.models / (variant.folder or next(iter(sha256)))
        return next(model for model in self._store.models if model.path == first)

    def _question(self, verb: str, name: str, **more: object) -> Question:
        said = {"verb": verb, "name": name, "home": str(self._home.root)}
        return msgspec.convert(said | more, Question)

    async def _ask(self, question: Question, kind: type[Answer]) -> Answer:
        return await _converse(question, kind, lambda progress: None)


async def _converse(
    question: Question, kind: type[Answer], report: Callable[[Progress], None]
) -> Answer:
    """Ask a child, which ends with this. Raises `PotluckError`, also where nothing is heard."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "potluck_worker.library.hub_host"),
        msgspec.json.encode(question),
        "--lifeline",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        limit=LINE_LIMIT_BYTES,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async for line in _lines(child.stdout, question):
            said = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            if "progress" in said:
                report(msgspec.json.decode(said["progress"], type=Progress))
            elif "failure" in said:
                raise error_of(msgspec.json.decode(said["failure"], type=Failure))
            else:
                return msgspec.json.decode(said["answer"], type=kind)
    except (ValueError, KeyError) as error:
        raise HubError(f"What the hub says of {question.name} cannot be read.") from error
    finally:
        child.stdin.close()  # the end of this pipe is the end of the child: see `child.py`
        with contextlib.suppress(ProcessLookupError):
            await child.wait()
    raise HubError(f"The process that speaks to the hub ended early, on {question.name}.")


async def _lines(output: asyncio.StreamReader, question: Question) -> AsyncIterator[bytes]:
    """Yield what a child says; it must have begun within `ANSWER_SECONDS`."""
    try:
        first = await asyncio.wait_for(output.readline(), ANSWER_SECONDS)
    except TimeoutError:
        searched = f"a search for {question.name!r}"
        what = searched if question.verb == "search" else question.name
        raise unreachable(what, f"no answer within {ANSWER_SECONDS:.0f} seconds") from None
    if first:
        yield first
    async for line in output:
        yield line
