"""What happened to a core, event by event, so that a bug can be told and replayed.

The story is bounded: it holds the last events and the state before the first of them. No prompt is
in it; requests are known by hashes of what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from potluck_proto.ids import GenerationId
from potluck_scheduler.core.events import Event, Instruction

CHAPTER_EVENTS = 2_000
"""Two chapters are kept: between so many events and twice as many."""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event and what came of it."""

    now: float
    event: Event
    instructions: tuple[Instruction, ...]


class Story(Generic[State]):
    """The last events, and the states that they began with."""

    def __init__(self) -> None:
        self._chapters: list[tuple[State, list[Entry]]] = []

    @property
    def chapter_is_full(self) -> bool:
        """Whether the next event begins a chapter, which needs the state before it."""
        return not self._chapters or len(self._chapters[-1][1]) >= CHAPTER_EVENTS

    def begin_chapter(self, state: State) -> None:
        """Begin a chapter; the one before the last is forgotten.

        Args:
            state: A copy, which nobody changes.
        """
        self._chapters = [*self._chapters[-1:], (state, [])]

    def add(self, entry: Entry) -> None:
        """Note what happened."""
        self._chapters[-1][1].append(entry)

    @property
    def beginning(self) -> State:
        """The state before the first entry. Raises `IndexError` where nothing happened."""
        return self._chapters[0][0]

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries, the oldest first."""
        for _, entries in self._chapters:
            yield from entries

    def of(self, generation_id: GenerationId) -> list[Entry]:
        """Return what concerns one answer."""
        return [entry for entry in self if generation_id in _answers(entry)]


def _answers(entry: Entry) -> set[object]:
    """Return the answers that an entry is about."""
    request = getattr(entry.event, "request", None)
    found = {getattr(request or entry.event, "generation_id", None)}
    return found | {getattr(each, "generation_id", None) for each in entry.instructions}
