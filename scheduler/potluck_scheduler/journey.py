"""One answer's way over the nodes, from its prompt to its end.

An answer that loses its place goes on where the core says, from the messages and what it has.
Deltas are numbered, so what comes twice is dropped and what is missing is noticed: no token is lost
and none doubled. Where it went on is a seam, which viewers see.
"""

from __future__ import annotations

import asyncio
from collections import deque

from potluck_proto.errors import (
    CapacityError,
    Displaced,
    LostError,
    NodeLost,
    PotluckError,
    UnknownModel,
    from_proto,
)
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.answer import Answer
from potluck_scheduler.conductor import Conductor, Order
from potluck_scheduler.convert import explanation_to_proto
from potluck_scheduler.core.events import (
    Cause,
    Dispatch,
    Queue,
    Refuse,
    RequestInterrupted,
    RequestSubmitted,
    SpeedMeasured,
)
from potluck_scheduler.core.model import ModelKey, Node, Request
from potluck_scheduler.nodes import NodeRegistry
from potluck_scheduler.prefix import prefix_of
from potluck_scheduler.work import Job

MAX_TOKENS_LIMIT = 2**32 - 1

REASONS = {
    Cause.NODE_LOST: "{node} was lost",
    Cause.ENGINE_DIED: "its engine on {node} died",
    Cause.STALLED: "it stalled on {node}",
    Cause.TURNED_AWAY: "{node} gave it up",
    Cause.MISBEHAVED: "what came from {node} had a gap",
}
"""Why an answer went on elsewhere, for its seam."""


def cause_of(error: PotluckError) -> Cause | None:
    """Return why an answer lost its place; `None` for what would fail anywhere."""
    match error:
        case NodeLost():
            return Cause.NODE_LOST
        case CapacityError() | UnknownModel() | Displaced():
            return Cause.TURNED_AWAY
        case LostError():
            return Cause.ENGINE_DIED
    # An error of no kind is the node's: an engine that failed in a step, a stream without an end.
    return Cause.MISBEHAVED if type(error) is PotluckError else None


class Journey:
    """Takes one answer from place to place.

    Args:
        answer: The answer.
        request: What it wants, as the core takes it.
        conductor: Tells the core.
        nodes: The workers.
        restored: Set for one that an earlier scheduler began: what its viewer would be told if it
            went no further.

    Attributes:
        waits: Whether it waits for a place.
    """

    def __init__(
        self,
        answer: Answer,
        request: Request,
        conductor: Conductor,
        nodes: NodeRegistry,
        restored: PotluckError | None = None,
    ) -> None:
        self._answer = answer
        self._request = request
        self._conductor = conductor
        self._nodes = nodes
        self._restored = restored
        self._orders: deque[Order] = deque()
        self._ordered = asyncio.Event()
        self._job: Job | None = None
        self._left = "the scheduler was restarted" if restored else "continued"
        self._worked = False
        self.waits = False

    async def run(self) -> types.End:
        """See the answer to its end.

        Raises:
            PotluckError: It failed.
        """
        self._conductor.listen(self._answer.generation_id, self._take_order)
        try:
            self._conductor.tell(RequestSubmitted(self._request, self._restored))
            while True:
                while self._orders:
                    end = await self._obey(self._orders.popleft())
                    if end is not None:
                        return end
                self._ordered.clear()
                await self._ordered.wait()
        finally:
            self._conductor.leave(self._answer.generation_id)

    async def _obey(self, order: Order) -> types.End | None:
        """Do what the core says; return the end if it came to that."""
        explanation = explanation_to_proto(order.decision.explanation)
        if isinstance(order, Queue):
            self.waits = True
            self._answer.show(
                types.Progress(
                    phase=types.PHASE_QUEUED,
                    queue_position=order.position,
                    wait_seconds=order.wait_seconds,
                )
            )
            return None
        self.waits = False
        self._conductor.decisions.note(explanation)
        if isinstance(order, Refuse):
            if not self._answer.begun:
                self._answer.place(explanation)
            assert order.decision.error is not None
            raise order.decision.error
        return await self._stay(order, explanation)

    def _take_order(self, order: Order) -> None:
        """Take what the core says; an answer that has a place and gets another leaves it."""
        self._orders.append(order)
        self._ordered.set()
        if isinstance(order, Dispatch) and self._job is not None:
            self._job.end(NodeLost("It leaves for another node."))

    async def _stay(self, order: Dispatch, explanation: types.Explanation) -> types.End | None:
        """Be at a place until the answer ends, or loses it; return the end if it came to that."""
        answer, node = self._answer, self._conductor.core.node(order.node_id)
        key = order.decision.explanation.model
        model = node.files.get(key) if node else None
        try:
            if node is None or model is None:
                raise NodeLost(f"{explanation.node_name} was lost before it could begin.")
            continuation = answer.arrive(model)
            self._mark_seam(explanation, exact=bool(answer.lineage))
            answer.place(explanation)
            tokens = len(answer.token_ids)
            end = await self._listen(order, continuation)
        except PotluckError as error:
            self._lose_place(error, explanation.node_name, order)
            return None
        tokens = len(answer.token_ids) - tokens
        if (usage := end.usage).decode_seconds:
            usage.tokens_per_second = tokens / usage.decode_seconds
            computed = usage.prompt_tokens - usage.cached_prompt_tokens
            self._conductor.tell(
                SpeedMeasured(
                    order.node_id, key, tokens, usage.decode_seconds, computed,
                    usage.prefill_seconds,
                )
            )  # fmt: skip
        return end

    async def _listen(self, order: Dispatch, continuation: worker.Continuation | None) -> types.End:
        """Take in what the node says until its end. Raises `PotluckError` where it fails."""
        explanation, answer = order.decision.explanation, self._answer
        asked = answer.submission.asked
        work = self._nodes.work(order.node_id)
        if work is None:
            raise NodeLost(f"{explanation.node_name} was lost before it could begin.")
        request = worker.GenerateRequest(
            generation_id=answer.generation_id,
            model=explanation.model.name,
            quantization=explanation.model.quantization,
            messages=answer.submission.conversation,
            sampling=_sampling(answer),
            thinking=asked.thinking if asked.HasField("thinking") else None,
            continuation=continuation,
        )
        self._worked = False
        job = self._job = work.start(request, self._take)
        try:
            return await job.ended
        finally:
            job.close()
            self._job = None

    def _take(self, response: worker.GenerateResponse) -> None:
        """Take a piece in; one that ends in failure raises it."""
        answer = self._answer
        match response.WhichOneof("event"):
            case "delta":
                self._worked = True
                answer.take_delta(response.delta)
                answer.wake()
            case "progress":
                self._worked = response.progress.phase == types.PHASE_PREFILL
                answer.show(response.progress)
            case "end" if response.end.reason == types.END_REASON_FAILED:
                raise from_proto(response.end.error)

    def _lose_place(self, error: PotluckError, node_name: str, order: Dispatch) -> None:
        """Tell the core that the answer lost its place. Raises what would fail anywhere."""
        if self._orders:
            # The core has found another place meanwhile.
            key = order.decision.explanation.model
            self._left = _why_it_left(self._conductor.core.node(order.node_id), key, node_name)
            return
        cause = cause_of(error)
        if cause is None:
            raise error
        self._left = REASONS[cause].format(node=node_name)
        answer = self._answer
        self._conductor.tell(
            RequestInterrupted(
                answer.generation_id,
                cause,
                error,
                len(answer.token_ids),
                self._worked,
                prefix_of(answer.submission.conversation, answer.text),
            )
        )

    def _mark_seam(self, explanation: types.Explanation, *, exact: bool) -> None:
        """Note that the answer goes on here, if it has anything."""
        answer = self._answer
        if not answer.begun:
            return
        answer.seams.append(
            pb.Seam(
                text_offset=len(answer.text),
                from_node=answer.node_name,
                to_node=explanation.node_name,
                reason=self._left,
                exact=exact,
            )
        )


def _why_it_left(node: Node | None, key: ModelKey, node_name: str) -> str:
    """Return why the core sent an answer away from a node that still had it, for its seam."""
    if node is not None and node.draining:
        return f"{node_name} is being drained"
    if node is not None and key in node.memory and node.memory[key].draining:
        return f"{key} is being unloaded on {node_name}"
    return f"it stalled on {node_name}"


def _sampling(answer: Answer) -> types.Sampling:
    """Return how tokens are drawn; a limit counts those after an end that did not last."""
    sampling = types.Sampling()
    sampling.CopyFrom(answer.submission.asked.sampling)
    if sampling.HasField("max_tokens"):
        limit = sampling.max_tokens + answer.submission.continued_tokens
        sampling.max_tokens = min(limit, MAX_TOKENS_LIMIT)
    return sampling
