"""Saving answers: what is new at least every `FLUSH_SECONDS`, and at each end.

Whatever waits to be saved is saved in one transaction, so that many answers cost the disk little
more than one. A disk that fails costs the record of an answer and not the answer: it is tried again
for as long as the answer is in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from potluck_proto.errors import StoreError
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.answer import Answer
from potluck_scheduler.answer_store import AnswerStore

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5

UNSAVED_KEPT = 256
"""Ended answers that could not be saved and are tried again, at most."""


class Saver:
    """Saves answers.

    Args:
        store: Where to.
    """

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self._ends: dict[Answer, types.End] = {}
        self._unsaved: dict[Answer, types.End] = {}
        self._saving: asyncio.Task[None] | None = None

    async def save_end(self, answer: Answer, end: types.End) -> None:
        """Save an answer that ended; where the disk fails, say so in its end."""
        self._ends[answer] = end
        while answer in self._ends:
            if self._saving is None or self._saving.done():
                self._saving = asyncio.create_task(self._save_ends())
            await asyncio.shield(self._saving)
        if answer.not_stored is not None:
            end.not_stored.CopyFrom(answer.not_stored.to_proto())

    async def flush_often(self, under_way: Callable[[], Iterable[Answer]]) -> None:
        """Save what is new, again and again."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush(under_way())

    async def flush(self, answers: Iterable[Answer]) -> None:
        """Save what is new of answers under way, and what could not be saved before."""
        dirty = [answer for answer in answers if answer.dirty]
        again = dict(self._unsaved)
        if not dirty and not again:
            return
        if await self._save([(answer, None) for answer in dirty] + list(again.items())):
            for answer in again:
                self._unsaved.pop(answer, None)

    async def _save_ends(self) -> None:
        ends, self._ends = dict(self._ends), {}
        if not await self._save(ends.items()):
            self._unsaved |= ends
            for answer in list(self._unsaved)[:-UNSAVED_KEPT]:
                del self._unsaved[answer]

    async def _save(self, answers: Iterable[tuple[Answer, types.End | None]]) -> bool:
        """Save answers; say whether the disk took them."""
        saved = list(answers)
        records = [answer.record(end) for answer, end in saved]
        for answer, _ in saved:
            answer.dirty = False
        try:
            await self._store.save(records)
        except StoreError as error:
            log.warning("%d answers are not stored: %s", len(saved), error.message)
            for answer, _ in saved:
                answer.dirty, answer.not_stored = True, error
            return False
        for answer, _ in saved:
            answer.not_stored = None
        return True
