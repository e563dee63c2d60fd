"""Saving answers: what is new at least every `FLUSH_SECONDS`, and at each end.

A disk that fails costs the record of an answer and not the answer: it is tried again for as long as
the answer is in memory.
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
        self._unsaved: dict[Answer, types.End] = {}

    async def save_end(self, answer: Answer, end: types.End) -> None:
        """Save an answer that ended; where the disk fails, say so in its end."""
        error = await self._save([(answer, end)])
        if error is not None:
            end.not_stored.CopyFrom(error.to_proto())
            self._unsaved[answer] = end
            while len(self._unsaved) > UNSAVED_KEPT:
                del self._unsaved[next(iter(self._unsaved))]

    async def flush_often(self, under_way: Callable[[], Iterable[Answer]]) -> None:
        """Save what is new, again and again."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush(under_way())

    async def flush(self, answers: Iterable[Answer]) -> None:
        """Save what is new of answers under way, and what could not be saved before."""
        again = list(self._unsaved.items())
        new = [(answer, None) for answer in answers if answer.dirty]
        if await self._save([*new, *again]) is None:
            for answer, _ in again:
                self._unsaved.pop(answer, None)

    async def _save(self, answers: list[tuple[Answer, types.End | None]]) -> StoreError | None:
        """Save answers; return how the disk failed, if it did."""
        if not answers:
            return None
        records = [answer.record(end) for answer, end in answers]
        for answer, _ in answers:
            answer.dirty = False
        try:
            await self._store.save(records)
        except StoreError as error:
            log.warning("%d answers are not stored: %s", len(answers), error.message)
            for answer, _ in answers:
                answer.dirty = True
            return error
        return None
