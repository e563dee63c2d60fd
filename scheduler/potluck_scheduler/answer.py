"""One answer, as the scheduler owns it: its text, its tokens, where it was.

Consistency: the text only grows. A viewer reads it from an offset of its own, so viewers cost
nothing, see every code point exactly once, and miss nothing however late they come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from potluck_proto.errors import OffsetNotReached, PotluckError
from potluck_proto.ids import GenerationId
from potluck_proto.reasoning import may_end_thought, split_thought
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.answer_store import Record
from potluck_scheduler.core.model import Model
from potluck_scheduler.submission import Submission

STALL_SECONDS = 5.0
STALL_GAPS = 20.0
"""An answer stalls that says nothing for so long, and for so many times as long as it usually
does between two pieces."""

GAP_FADE = 0.2
"""The weight of the last gap against all before it."""


def lineage_of(model: Model) -> str:
    """Return what must be the same on two nodes for an answer to go on as it would have."""
    return f"{model.tokenizer_sha256}:{model.template_sha256}:{model.weights_sha256}"


class Answer:
    """One answer.

    Args:
        submission: What was stored; one that goes on has text and tokens already.
        restored: An earlier scheduler left it under way.

    Attributes:
        text: What it has.
        token_ids: The same as tokens, where `lineage` says of whose vocabulary they are.
        lineage: Empty where the tokens are not the whole answer: then its text goes on alone.
        seams: Where it went on at another node.
        thought_seconds: How long the model thought before it spoke.
        dirty: Whether there is more than is stored.
    """

    def __init__(self, submission: Submission, *, restored: bool = False) -> None:
        self.submission = submission
        self.restored = restored
        self.text = submission.text
        self.token_ids = list(submission.token_ids)
        self.lineage = submission.lineage
        self.seams = list(submission.seams)
        self.model = submission.model
        self.node_name = submission.node_name
        self.explanation = submission.explanation
        self.thought_seconds = submission.thought_seconds
        self.progress: types.Progress | None = types.Progress(phase=types.PHASE_QUEUED)
        self.end: types.End | None = None
        self.dirty = False
        self._views: set[_View] = set()
        self.first_text_seconds = 0.0
        self._submitted = time.monotonic()
        self._first_text = 0.0
        self._next_token: int | None = 0
        self._heard = 0.0
        self._heard_first = 0.0
        self._tokens_first = 0
        self._gap_seconds = 0.0

    @property
    def generation_id(self) -> GenerationId:
        """The answer's id."""
        return self.submission.generation_id

    @property
    def begun(self) -> bool:
        """Whether it has anything."""
        return bool(self.text or self.token_ids)

    # --- what comes from a node ----------------------------------------------------------------

    def arrive(self, model: Model) -> worker.Continuation | None:
        """Get ready to go on at a node; return what the node must know of what there is.

        With the same tokenizer, template and weights the tokens go on, else the text alone: then
        the node counts tokens in its own way.

        Args:
            model: The model there.
        """
        lineage = lineage_of(model)
        exact = self.lineage == lineage or not self.begun
        self._heard, self._gap_seconds = 0.0, 0.0
        if not self.begun:
            self.lineage = lineage
            self._next_token = 0
            return None
        if exact:
            self._next_token = len(self.token_ids)
        else:
            self.lineage, self.token_ids, self._next_token = "", [], None
        return worker.Continuation(
            token_ids=self.token_ids,
            text=self.text,
            tokenizer_sha256=model.tokenizer_sha256,
            template_sha256=model.template_sha256,
        )

    def take_delta(self, delta: types.Delta) -> None:
        """Append what is new of a delta; what is there already is dropped.

        Raises:
            PotluckError: The delta leaves a gap.
        """
        if self._next_token is None:
            self._next_token = delta.first_token_index
        token_gap = delta.first_token_index - self._next_token
        text_gap = delta.text_offset - len(self.text)
        if token_gap > 0 or text_gap > 0:
            raise PotluckError(
                f"The worker skipped {max(token_gap, 0)} tokens and {max(text_gap, 0)} characters."
            )
        tokens = delta.token_ids[-token_gap:]
        self.token_ids.extend(tokens)
        self._next_token += len(tokens)
        length = len(self.text)
        self.text += delta.text[-text_gap:]
        self.dirty = True
        self._note_pace()
        self._note_thought(length)

    def _note_pace(self) -> None:
        now = time.monotonic()
        if self._heard:
            gap = now - self._heard
            known = self._gap_seconds
            self._gap_seconds = known + GAP_FADE * (gap - known) if known else gap
        else:
            self._begin_to_hear(now)
        self._heard = now

    def _begin_to_hear(self, now: float) -> None:
        self._heard_first, self._tokens_first = now, len(self.token_ids)
        if self.progress is None:
            return
        self.progress = None
        if not self._first_text:
            self._first_text = now
            if not self.restored:
                self.first_text_seconds = now - self._submitted

    def _note_thought(self, length: int) -> None:
        """Note how long the model thought, once it speaks; `length` characters are not new."""
        if self.thought_seconds or not may_end_thought(self.text, length):
            return
        spoken = split_thought(self.text)
        if spoken.thought and not spoken.thinking:
            self.thought_seconds = time.monotonic() - self._first_text

    @property
    def tokens_per_second(self) -> float:
        """How fast it comes from where it is, as heard here; 0 before there are two pieces."""
        seconds = self._heard - self._heard_first
        return (len(self.token_ids) - self._tokens_first) / seconds if seconds > 0 else 0.0

    def stalls(self, now: float) -> bool:
        """Say whether it has said nothing for much longer than it usually does."""
        if not self._heard or self.end is not None:
            return False
        return now - self._heard > max(STALL_SECONDS, STALL_GAPS * self._gap_seconds)

    # --- what goes to viewers ------------------------------------------------------------------

    def place(self, explanation: types.Explanation) -> None:
        """Note where it is and why."""
        self.explanation, self.node_name = explanation, explanation.node_name
        self.model = explanation.model
        if explanation.quantization:
            self.model += f":{explanation.quantization}"
        self.dirty = True
        self.wake()

    def show(self, progress: types.Progress) -> None:
        """Note what happens while there is no text."""
        if progress != self.progress:
            self.progress = progress
            self.wake()

    def finish(self, end: types.End) -> None:
        """Give out the end, the last there is."""
        self.end = end
        self.progress = None
        self.wake()

    def record(self, end: types.End | None = None) -> Record:
        """Return the answer as it is saved."""
        return Record(
            generation_id=self.generation_id,
            model=self.model,
            node_name=self.node_name,
            text=self.text,
            token_ids=self.token_ids,
            lineage=self.lineage,
            seams=tuple(self.seams),
            explanation=self.explanation,
            end=end,
        )

    async def attach(
        self, from_offset: int, patience_seconds: float = 0.0
    ) -> AsyncIterator[list[pb.AnswerEvent]]:
        """Yield the answer from an offset on, what is ready together: head, text, seams, end.

        Args:
            from_offset: Code points that the viewer has.
            patience_seconds: How long the head may wait for the first words.

        A restored answer may have less than a viewer saw of it before, as the last moments were
        not stored. They come again, and the viewer gets what follows what it has.

        Raises:
            OffsetNotReached: The answer is shorter than that.
        """
        view = _View(self, from_offset)
        self._views.add(view)
        try:
            while self.restored and self.end is None and from_offset > len(self.text):
                await view.wait()
            check_offset(from_offset, len(self.text))
            if patience_seconds:
                await view.wait_for_words(patience_seconds)
            while not view.ended:
                if events := view.take():
                    yield events
                else:
                    await view.wait()
        finally:
            self._views.discard(view)

    @property
    def watched(self) -> bool:
        """Whether anybody looks at it."""
        return bool(self._views)

    def wake(self) -> None:
        """Have those who look at it look again."""
        for view in self._views:
            view.wake()

    def head(self) -> pb.AnswerHead:
        """Return its state for a viewer that comes now."""
        return pb.AnswerHead(
            chat_id=self.submission.chat_id,
            answer_message_id=self.submission.answer_message_id,
            model=self.model,
            text_length=len(self.text),
            explanation=self.explanation,
            seams=self.seams,
        )


class _View:
    """How far a viewer is.

    Args:
        answer: What it looks at.
        offset: The code points that it has.
    """

    def __init__(self, answer: Answer, offset: int) -> None:
        self._answer = answer
        self._offset = offset
        self._head = False
        self._explanation = answer.explanation
        self._progress: types.Progress | None = None
        self._seams = len(answer.seams)
        self._waiting: asyncio.Future[None] | None = None
        self._impatient = False
        self.ended = False

    async def wait(self) -> None:
        """Return when there may be something new. Take what there is first."""
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    async def wait_for_words(self, seconds: float) -> None:
        """Return when there is text, or an end, or after some seconds."""
        timer = asyncio.get_running_loop().call_later(seconds, self._lose_patience)
        while not (self._answer.text or self._answer.end or self._impatient):
            await self.wait()
        timer.cancel()

    def _lose_patience(self) -> None:
        self._impatient = True
        self.wake()

    def wake(self) -> None:
        """End the waiting, if there is any."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def take(self) -> list[pb.AnswerEvent]:
        """Return what the viewer has not seen, in order."""
        answer, events = self._answer, []
        if not self._head:
            self._head = True
            events.append(pb.AnswerEvent(head=answer.head()))
        if answer.explanation is not self._explanation:
            self._explanation = answer.explanation
            events.append(pb.AnswerEvent(placed=answer.explanation))
        if answer.progress is not None and answer.progress != self._progress:
            self._progress = answer.progress
            events.append(pb.AnswerEvent(progress=answer.progress))
        for seam in answer.seams[self._seams :]:
            events += self._text_until(seam.text_offset)
            events.append(pb.AnswerEvent(seam=seam))
        self._seams = len(answer.seams)
        events += self._text_until(len(answer.text))
        if answer.end is not None:
            self.ended = True
            events.append(pb.AnswerEvent(end=answer.end))
        return events

    def _text_until(self, offset: int) -> list[pb.AnswerEvent]:
        if offset <= self._offset:
            return []
        text = self._answer.text[self._offset : offset]
        delta = types.Delta(text_offset=self._offset, text=text)
        self._offset = offset
        return [pb.AnswerEvent(delta=delta)]


def check_offset(offset: int, length: int) -> None:
    """Raise `OffsetNotReached` for an offset beyond what there is."""
    if offset > length:
        raise OffsetNotReached(
            f"The answer is {length} characters long; it cannot be shown from {offset} on.",
            length=length,
        )
