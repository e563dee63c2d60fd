"""All answers under way, and the last that ended.

What is on disk is at most `FLUSH_SECONDS` behind, and complete once the end is given out. Every
answer ends with exactly one `End`. An answer that a scheduler leaves under way is begun again by
the next one, from what is stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from potluck_proto.errors import PotluckError, SchedulerRestarted, UnknownGeneration
from potluck_proto.ids import ChatId, GenerationId, NodeId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.answer import Answer, check_offset
from potluck_scheduler.answer_store import AnswerStore
from potluck_scheduler.conductor import Conductor
from potluck_scheduler.convert import request_from_proto
from potluck_scheduler.core.events import RequestEnded, RequestStalled
from potluck_scheduler.core.model import ModelKey, Progress, Request
from potluck_scheduler.journey import Journey
from potluck_scheduler.nodes import NodeRegistry
from potluck_scheduler.prefix import prefix_of
from potluck_scheduler.saver import Saver
from potluck_scheduler.submission import Submission

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often answers are looked at that wait, or stall."""

ENDED_KEPT = 64
"""Ended answers that stay in memory, for viewers that are just reading them."""


@dataclass(slots=True)
class UnderWay:
    """An answer, and the task that sees it to its end."""

    answer: Answer
    journey: Journey
    task: asyncio.Task[None] | None = None
    stopping: bool = False
    ending: bool = False


class Generations:
    """All answers under way, and the last that ended.

    Args:
        conductor: Tells the core.
        nodes: The workers.
        store: Where answers are kept.
        changed: Called when a chat changed.
        move: Whether answers go on elsewhere when their place is lost.
    """

    def __init__(
        self,
        conductor: Conductor,
        nodes: NodeRegistry,
        store: AnswerStore,
        changed: Callable[[], None],
        *,
        move: bool,
    ) -> None:
        self._conductor = conductor
        self._nodes = nodes
        self._store = store
        self._saver = Saver(store)
        self._changed = changed
        self._move = move
        self._active: dict[GenerationId, UnderWay] = {}
        self._ended: OrderedDict[GenerationId, Answer] = OrderedDict()

    def active(self) -> list[Answer]:
        """Return the answers under way."""
        return [under_way.answer for under_way in self._active.values()]

    def ids(self) -> AbstractSet[GenerationId]:
        """Return the ids of the answers under way."""
        return self._active.keys()

    def in_chat(self, chat_id: ChatId) -> list[Answer]:
        """Return the answers under way in a chat."""
        return [answer for answer in self.active() if answer.submission.chat_id == chat_id]

    def start(self, submission: Submission) -> None:
        """Begin an answer that is stored, or go on with one that was cut."""
        self._ended.pop(submission.generation_id, None)
        self._begin(Answer(submission))

    def restore(self, unfinished: Iterable[Submission]) -> None:
        """Begin again the answers that an earlier scheduler left under way."""
        for submission in unfinished:
            error = SchedulerRestarted(
                "The scheduler was restarted in mid-answer; what the model had said is kept."
            )
            self._begin(Answer(submission, restored=True), error)

    async def run(self) -> None:
        """Save what is new, and look after those who wait or stall."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._saver.flush_often(self.active))
            group.create_task(self._look_after())

    async def stop(self, generation_id: GenerationId) -> None:
        """End an answer; return when it has ended. Raises `UnknownGeneration`."""
        under_way = self._active.get(generation_id)
        if under_way is None:
            if generation_id not in self._ended and await self._store.answer(generation_id) is None:
                raise _unknown(generation_id)
            return
        assert under_way.task is not None
        if not under_way.ending:
            under_way.stopping = True
            under_way.task.cancel()
        await asyncio.gather(under_way.task, return_exceptions=True)

    async def close(self) -> None:
        """Leave all answers as they are: the next scheduler finds them on disk."""
        tasks = [under_way.task for under_way in self._active.values() if under_way.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._saver.flush(self.active())

    async def attach(
        self, generation_id: GenerationId, from_offset: int, patience_seconds: float = 0.0
    ) -> AsyncIterator[list[pb.AnswerEvent]]:
        """Yield an answer from an offset on: from memory while it is there, else from disk.

        Args:
            generation_id: Which answer.
            from_offset: Code points that the viewer has.
            patience_seconds: How long the head may wait for the first words.

        Raises:
            UnknownGeneration: There is no such answer.
            OffsetNotReached: The answer is shorter than that.
        """
        under_way = self._active.get(generation_id)
        answer = under_way.answer if under_way else self._ended.get(generation_id)
        if answer is None:
            yield await self._replay(generation_id, from_offset)
            return
        async for events in answer.attach(from_offset, patience_seconds):
            yield events

    async def _replay(self, generation_id: GenerationId, from_offset: int) -> list[pb.AnswerEvent]:
        """Return an ended answer from disk."""
        stored = await self._store.answer(generation_id)
        if stored is None:
            raise _unknown(generation_id)
        message = stored.message
        check_offset(from_offset, len(message.content))
        head = pb.AnswerHead(
            chat_id=stored.chat_id,
            answer_message_id=message.message_id,
            model=message.model,
            text_length=len(message.content),
            explanation=message.explanation if message.HasField("explanation") else None,
            seams=message.seams,
        )
        events = [pb.AnswerEvent(head=head)]
        if text := message.content[from_offset:]:
            delta = types.Delta(text_offset=from_offset, text=text)
            events.append(pb.AnswerEvent(delta=delta))
        return [*events, pb.AnswerEvent(end=message.end)]

    # --- one answer ----------------------------------------------------------------------------

    def _begin(self, answer: Answer, restored: PotluckError | None = None) -> None:
        wanted = _wanted(answer, self._move)
        journey = Journey(answer, wanted, self._conductor, self._nodes, restored)
        under_way = UnderWay(answer, journey)
        self._active[answer.generation_id] = under_way
        name = f"answer {answer.generation_id}"
        under_way.task = asyncio.create_task(self._run(under_way), name=name)
        self._changed()

    async def _run(self, under_way: UnderWay) -> None:
        """See an answer to its end."""
        answer = under_way.answer
        try:
            end = await under_way.journey.run()
        except asyncio.CancelledError:
            if not under_way.stopping:  # the scheduler ends; the answer does not
                raise
            usage = types.Usage(tokens_per_second=answer.tokens_per_second)
            end = types.End(reason=types.END_REASON_STOPPED, usage=usage)
        except PotluckError as error:
            end = _failure(error)
        except Exception as error:
            log.exception("answer %s failed", answer.generation_id)
            end = _failure(PotluckError(f"The scheduler failed: {type(error).__name__}: {error}."))
        under_way.ending = True
        end.usage.time_to_first_token_seconds = answer.first_text_seconds
        end.usage.thought_seconds = answer.thought_seconds
        end.usage.completion_tokens = max(end.usage.completion_tokens, len(answer.token_ids))
        prefix = prefix_of(answer.submission.conversation, answer.text)
        self._conductor.tell(
            RequestEnded(answer.generation_id, end.usage.completion_tokens, prefix)
        )
        await self._saver.save_end(answer, end)
        self._retire(answer, end)

    def _retire(self, answer: Answer, end: types.End) -> None:
        del self._active[answer.generation_id]
        self._ended[answer.generation_id] = answer
        while len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)
        answer.finish(end)
        self._changed()

    # --- those that wait or stall --------------------------------------------------------------

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for under_way in list(self._active.values()):
                if under_way.answer.stalls(now):
                    self._conductor.tell(RequestStalled(under_way.answer.generation_id))
                elif under_way.answer.watched and under_way.journey.waits:
                    self._show_waiting(under_way.answer)

    def _show_waiting(self, answer: Answer) -> None:
        """Tell those who look at an answer that waits how long it still does."""
        loading = self._conductor.core.load_of(answer.generation_id)
        if loading is not None:
            answer.show(types.Progress(phase=types.PHASE_LOADING, fraction=loading))
            return
        place = self._conductor.core.place_in_queue(answer.generation_id)
        if place is not None:
            position, seconds = place
            answer.show(
                types.Progress(
                    phase=types.PHASE_QUEUED, queue_position=position, wait_seconds=seconds
                )
            )


def _wanted(answer: Answer, move: bool) -> Request:
    """Return what an answer wants, as the core takes it."""
    submission, explanation = answer.submission, answer.explanation
    request = request_from_proto(
        answer.generation_id,
        submission.model,
        submission.asked,
        submission.conversation,
        submission.chat_id,
    )
    request = replace(request, may_move=request.may_move and move)
    if not (answer.restored and answer.begun and explanation):
        return request
    key = ModelKey(explanation.model, explanation.quantization)
    progress = Progress(key, len(answer.token_ids), NodeId(explanation.node_id))
    return replace(request, progress=progress)


def _failure(error: PotluckError) -> types.End:
    return types.End(reason=types.END_REASON_FAILED, error=error.to_proto())


def _unknown(generation_id: str) -> UnknownGeneration:
    return UnknownGeneration(f"There is no answer {generation_id!r}; its chat may be deleted.")
