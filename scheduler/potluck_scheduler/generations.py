"""Answers under way: each is an actor that owns its text until it ends.

Consistency: an answer's text only grows. A viewer reads it from an offset of its own, so viewers
cost nothing, see every code point exactly once, and miss nothing however late they come. What is on
disk is at most `FLUSH_SECONDS` behind, and complete once the end is given out. Every answer ends
with exactly one `End`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet

import grpc

from potluck_proto.errors import (
    NodeLost,
    NoNodes,
    OffsetNotReached,
    PotluckError,
    StoreError,
    UnknownGeneration,
    UnknownModel,
    Unreachable,
    from_rpc,
)
from potluck_proto.ids import ChatId, GenerationId
from potluck_proto.pulse import Pulse
from potluck_proto.reasoning import may_end_thought, split_thought
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.convert import explanation_to_proto
from potluck_scheduler.core.events import Dispatch, Instruction, RequestEnded, RequestSubmitted
from potluck_scheduler.core.model import Explanation, Request
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.decisions import Decisions
from potluck_scheduler.nodes import NodeRegistry
from potluck_scheduler.store import ChatStore, Submission

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
MEETING_SECONDS = 3.0
"""Zeroconf needs about two to find what is there."""

MAX_TOKENS_LIMIT = 2**32 - 1
ENDED_KEPT = 64
"""Ended answers that stay in memory, for viewers that are just reading them."""


class Generation:
    """One answer.

    Args:
        submission: What was stored; a cut answer that goes on has its text and tokens already.
    """

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.text = submission.text
        self.token_ids = list(submission.token_ids)
        self.seams = list(submission.seams)
        self.thought_seconds = submission.thought_seconds
        self.progress: types.Progress | None = types.Progress(phase=types.PHASE_QUEUED)
        self.explanation: types.Explanation | None = None
        self.end: types.End | None = None
        self.submitted = time.monotonic()
        self.first_text: float | None = None
        self.stopping = False
        self.ending = False
        self.task: asyncio.Task[None] | None = None
        self.pulse = Pulse()

    @property
    def generation_id(self) -> GenerationId:
        """The answer's id."""
        return self.submission.generation_id

    def take_delta(self, delta: types.Delta) -> None:
        """Append what is new of a delta; what is there already is dropped.

        Raises:
            PotluckError: The delta leaves a gap.
        """
        token_gap = delta.first_token_index - len(self.token_ids)
        text_gap = delta.text_offset - len(self.text)
        if token_gap > 0 or text_gap > 0:
            raise PotluckError(
                f"The worker skipped {max(token_gap, 0)} tokens and {max(text_gap, 0)} characters."
            )
        self.token_ids.extend(delta.token_ids[-token_gap:])
        length = len(self.text)
        self.text += delta.text[-text_gap:]
        if self.first_text is None:
            self.first_text = time.monotonic()
            self.progress = None
        if may_end_thought(self.text, length) and not self.thought_seconds:
            spoken = split_thought(self.text)
            if spoken.thought and not spoken.thinking:
                self.thought_seconds = time.monotonic() - self.first_text


class Generations:
    """All answers under way, and the last that ended.

    Args:
        core: Decides where they go.
        nodes: The workers.
        store: Where they are kept.
        pulse: Beats when the pool changed.
        changed: Called when a chat changed.

    Attributes:
        decisions: The last ones.
    """

    def __init__(
        self,
        core: Scheduler,
        nodes: NodeRegistry,
        store: ChatStore,
        pulse: Pulse,
        changed: Callable[[], None],
    ) -> None:
        self.decisions = Decisions()
        self._started = time.monotonic()
        self._pulse = pulse
        self._core = core
        self._nodes = nodes
        self._store = store
        self._changed = changed
        self._active: dict[GenerationId, Generation] = {}
        self._ended: OrderedDict[GenerationId, Generation] = OrderedDict()

    def active(self) -> list[Generation]:
        """Return the answers under way."""
        return list(self._active.values())

    def ids(self) -> AbstractSet[GenerationId]:
        """Return the ids of the answers under way."""
        return self._active.keys()

    def in_chat(self, chat_id: ChatId) -> list[Generation]:
        """Return the answers under way in a chat."""
        return [g for g in self._active.values() if g.submission.chat_id == chat_id]

    def start(self, submission: Submission) -> Generation:
        """Begin an answer that is stored, or go on with one."""
        generation = Generation(submission)
        self._active[submission.generation_id] = generation
        self._ended.pop(submission.generation_id, None)
        generation.task = asyncio.create_task(
            self._run(generation), name=f"answer {submission.generation_id}"
        )
        self._changed()
        return generation

    async def stop(self, generation_id: GenerationId) -> None:
        """End an answer; return when it has ended. Raises `UnknownGeneration`."""
        generation = self._active.get(generation_id)
        if generation is None:
            if generation_id not in self._ended and await self._store.answer(generation_id) is None:
                raise _unknown(generation_id)
            return
        assert generation.task is not None
        if not generation.ending:
            generation.stopping = True
            generation.task.cancel()
        await asyncio.gather(generation.task, return_exceptions=True)

    async def close(self) -> None:
        """Leave all answers as they are: the next scheduler finds them on disk."""
        for generation in self.active():
            assert generation.task is not None
            generation.task.cancel()
            await asyncio.gather(generation.task, return_exceptions=True)

    async def attach(
        self, generation_id: GenerationId, from_offset: int
    ) -> AsyncIterator[pb.AttachResponse]:
        """Yield an answer from an offset on: head, text, end.

        Raises:
            UnknownGeneration: There is no such answer.
            OffsetNotReached: The answer is shorter than that.
        """
        generation = self._active.get(generation_id) or self._ended.get(generation_id)
        if generation is None:
            async for response in self._replay(generation_id, from_offset):
                yield response
            return
        _check_offset(from_offset, len(generation.text))
        yield pb.AttachResponse(head=_head(generation))
        offset, explanation, progress = from_offset, generation.explanation, None
        seams = len(generation.seams)
        while True:
            beat = generation.pulse.next_beat()
            if generation.explanation is not explanation:
                explanation = generation.explanation
                yield pb.AttachResponse(placed=explanation)
            for seam in generation.seams[seams:]:
                seams += 1
                yield pb.AttachResponse(seam=seam)
            if generation.progress is not None and generation.progress != progress:
                progress = generation.progress
                yield pb.AttachResponse(progress=progress)
            if len(generation.text) > offset:
                text = generation.text[offset:]
                yield pb.AttachResponse(delta=types.Delta(text_offset=offset, text=text))
                offset += len(text)
            elif generation.end is not None:
                yield pb.AttachResponse(end=generation.end)
                return
            elif not beat.done():
                await beat

    async def _replay(
        self, generation_id: GenerationId, from_offset: int
    ) -> AsyncIterator[pb.AttachResponse]:
        """Yield an ended answer from disk."""
        stored = await self._store.answer(generation_id)
        if stored is None:
            raise _unknown(generation_id)
        message = stored.message
        _check_offset(from_offset, len(message.content))
        head = pb.AnswerHead(
            chat_id=stored.chat_id,
            answer_message_id=message.message_id,
            model=message.model,
            text_length=len(message.content),
            explanation=message.explanation if message.HasField("explanation") else None,
            seams=message.seams,
        )
        yield pb.AttachResponse(head=head)
        if text := message.content[from_offset:]:
            yield pb.AttachResponse(delta=types.Delta(text_offset=from_offset, text=text))
        yield pb.AttachResponse(end=message.end)

    # --- one answer ----------------------------------------------------------------------------

    async def _run(self, generation: Generation) -> None:
        """See an answer from its place to its end."""
        flusher = asyncio.create_task(self._flush_often(generation))
        try:
            end = await self._answer(generation)
        except asyncio.CancelledError:
            if not generation.stopping:  # the scheduler ends; the answer does not
                await self._save(generation, None)
                raise
            end = types.End(reason=types.END_REASON_STOPPED)
        except PotluckError as error:
            end = _failure(error)
        except Exception as error:
            log.exception("answer %s failed", generation.generation_id)
            end = _failure(PotluckError(f"The scheduler failed: {type(error).__name__}: {error}."))
        finally:
            generation.ending = True
            flusher.cancel()
        self._add_times(generation, end)
        await self._save(generation, end)
        generation.end = end
        self._retire(generation)

    async def _answer(self, generation: Generation) -> types.End:
        """Find a place, and take in what the worker says until its end."""
        submission, asked = generation.submission, generation.submission.asked
        instruction = await self._place(
            Request(generation.generation_id, submission.model, tuple(asked.nodes))
        )
        decision = instruction.decision
        generation.explanation = explanation_to_proto(decision.explanation)
        self.decisions.note(generation.explanation)
        if submission.text and isinstance(instruction, Dispatch):
            generation.seams.append(_seam(submission, decision.explanation))
        generation.pulse.beat()
        await self._store.save_place(
            generation.generation_id,
            decision.explanation.node_name,
            generation.explanation,
            generation.seams,
        )
        if not isinstance(instruction, Dispatch):
            assert decision.error is not None
            raise decision.error
        explanation = decision.explanation
        assert explanation.node_id is not None
        stub = self._nodes.stub(explanation.node_id)
        if stub is None:
            raise NodeLost(f"{explanation.node_name} was lost before it could begin. Ask again.")
        call = stub.Generate(
            worker.GenerateRequest(
                generation_id=generation.generation_id,
                model=explanation.model.name,
                quantization=explanation.model.quantization,
                messages=submission.conversation,
                sampling=_sampling(submission),
                thinking=asked.thinking if asked.HasField("thinking") else None,
                continuation=_continuation(submission),
            )
        )
        try:
            async for response in call:
                if (end := self._take(generation, response)) is not None:
                    return end
        except grpc.aio.AioRpcError as error:
            failure = from_rpc(error, explanation.node_name)
            raise _lost(explanation) if isinstance(failure, Unreachable) else failure from error
        except asyncio.CancelledError:
            # A channel that is let go of, as its worker is lost, cancels its calls; that looks like
            # the cancellation of this task and is none.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise _lost(explanation) from None
        finally:
            call.cancel()
        raise PotluckError(f"{explanation.node_name} ended the answer without a reason.")

    async def _place(self, request: Request) -> Instruction:
        """Return the core's decision.

        A scheduler that has just started has not met its workers yet: what has no place for lack of
        them is tried again as they appear, for `MEETING_SECONDS`.
        """
        while True:
            beat = self._pulse.next_beat()
            (instruction,) = self._core.handle(RequestSubmitted(request), time.monotonic())
            error = instruction.decision.error
            rest_seconds = self._started + MEETING_SECONDS - time.monotonic()
            if not isinstance(error, NoNodes | UnknownModel) or rest_seconds <= 0:
                return instruction
            await asyncio.wait([beat], timeout=rest_seconds)

    def _take(self, generation: Generation, response: worker.GenerateResponse) -> types.End | None:
        match response.WhichOneof("event"):
            case "delta":
                generation.take_delta(response.delta)
            case "progress":
                generation.progress = response.progress
            case "end":
                return response.end
        generation.pulse.beat()
        return None

    def _add_times(self, generation: Generation, end: types.End) -> None:
        """Add what only the scheduler sees: the time from the prompt to the first token."""
        if generation.first_text is not None:
            waited_seconds = generation.first_text - generation.submitted
            end.usage.time_to_first_token_seconds = waited_seconds
        usage = end.usage
        usage.completion_tokens = max(usage.completion_tokens, len(generation.token_ids))
        if usage.decode_seconds and generation.submission.token_ids:
            new_tokens = usage.completion_tokens - len(generation.submission.token_ids)
            usage.tokens_per_second = new_tokens / usage.decode_seconds
        usage.thought_seconds = generation.thought_seconds

    def _retire(self, generation: Generation) -> None:
        generation_id = generation.generation_id
        self._core.handle(RequestEnded(generation_id), time.monotonic())
        self._active.pop(generation_id, None)
        self._ended[generation_id] = generation
        while len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)
        generation.pulse.beat()
        self._changed()

    async def _flush_often(self, generation: Generation) -> None:
        saved = 0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if len(generation.text) > saved:
                saved = len(generation.text)
                await self._save(generation, None)

    async def _save(self, generation: Generation, end: types.End | None) -> None:
        """Store what there is; a disk that fails costs the record, not the answer."""
        try:
            await self._store.save_text(
                generation.generation_id, generation.text, generation.token_ids, end
            )
        except StoreError as error:
            log.warning("answer %s is not stored: %s", generation.generation_id, error.message)


def _lost(explanation: Explanation) -> NodeLost:
    return NodeLost(
        f"The connection to {explanation.node_name} broke in mid-answer; what it had said is kept. "
        "Ask again."
    )


def _head(generation: Generation) -> pb.AnswerHead:
    return pb.AnswerHead(
        chat_id=generation.submission.chat_id,
        answer_message_id=generation.submission.answer_message_id,
        model=generation.submission.model,
        text_length=len(generation.text),
        explanation=generation.explanation,
        seams=generation.seams,
    )


def _seam(submission: Submission, explanation: Explanation) -> pb.Seam:
    """Return the mark where an answer that was cut goes on."""
    return pb.Seam(
        text_offset=len(submission.text),
        from_node=submission.node_name,
        to_node=explanation.node_name,
        reason="continued",
    )


def _continuation(submission: Submission) -> worker.Continuation | None:
    """Return what an answer that goes on has already."""
    if not submission.text:
        return None
    return worker.Continuation(token_ids=submission.token_ids, text=submission.text)


def _sampling(submission: Submission) -> types.Sampling:
    """Return how tokens are drawn; a limit counts the new tokens of an answer that goes on."""
    sampling = types.Sampling()
    sampling.CopyFrom(submission.asked.sampling)
    if sampling.HasField("max_tokens"):
        limit = sampling.max_tokens + len(submission.token_ids)
        sampling.max_tokens = min(limit, MAX_TOKENS_LIMIT)
    return sampling


def _check_offset(offset: int, length: int) -> None:
    if offset > length:
        raise OffsetNotReached(
            f"The answer is {length} characters long; it cannot be shown from {offset} on.",
            length=length,
        )


def _failure(error: PotluckError) -> types.End:
    return types.End(reason=types.END_REASON_FAILED, error=error.to_proto())


def _unknown(generation_id: str) -> UnknownGeneration:
    return UnknownGeneration(f"There is no answer {generation_id!r}; its chat may be deleted.")
