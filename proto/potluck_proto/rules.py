"""Who may call what: one table for both services, and the gate that holds it.

A method that is not in the table is refused to everybody; a test fails when a method of the
contract is missing here. The gate also tells the caller how a method failed: whatever
`PotluckError` a method raises ends its call, in the error's own words.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from potluck_proto.errors import BadRequest, LimitReached, NotAllowed, PotluckError, abort
from potluck_proto.identity import OWNER, Peer, Role
from potluck_proto.limits import Limits

SCHEDULER_SERVICE = "/potluck.v1.SchedulerService/"
WORKER_SERVICE = "/potluck.v1.WorkerService/"

OWNERS = frozenset({Role.OWNER})
VIEWERS = frozenset({Role.OWNER, Role.CLIENT})
SCHEDULERS = frozenset({Role.OWNER, Role.SCHEDULER})

RULES: dict[str, frozenset[Role]] = {
    # Chats and answers belong to the house: each of its viewers sees all of them.
    SCHEDULER_SERVICE + "Submit": VIEWERS,
    SCHEDULER_SERVICE + "Ask": VIEWERS,
    SCHEDULER_SERVICE + "Attach": VIEWERS,
    SCHEDULER_SERVICE + "Stop": VIEWERS,
    SCHEDULER_SERVICE + "Regenerate": VIEWERS,
    SCHEDULER_SERVICE + "Continue": VIEWERS,
    SCHEDULER_SERVICE + "SelectBranch": VIEWERS,
    SCHEDULER_SERVICE + "ListChats": VIEWERS,
    SCHEDULER_SERVICE + "GetChat": VIEWERS,
    SCHEDULER_SERVICE + "UpdateChat": VIEWERS,
    SCHEDULER_SERVICE + "DeleteChat": VIEWERS,
    SCHEDULER_SERVICE + "RestoreChat": VIEWERS,
    SCHEDULER_SERVICE + "SearchChats": VIEWERS,
    SCHEDULER_SERVICE + "ListPrompts": VIEWERS,
    SCHEDULER_SERVICE + "ListPresets": VIEWERS,
    SCHEDULER_SERVICE + "SavePreset": VIEWERS,
    SCHEDULER_SERVICE + "DeletePreset": VIEWERS,
    # The pool as it is, and what people do with models.
    SCHEDULER_SERVICE + "WatchPool": VIEWERS,
    SCHEDULER_SERVICE + "ListModels": VIEWERS,
    SCHEDULER_SERVICE + "ListNodes": VIEWERS,
    SCHEDULER_SERVICE + "DrainNode": VIEWERS,
    SCHEDULER_SERVICE + "LoadModel": VIEWERS,
    SCHEDULER_SERVICE + "UnloadModel": VIEWERS,
    SCHEDULER_SERVICE + "PinModel": VIEWERS,
    SCHEDULER_SERVICE + "ListDecisions": VIEWERS,
    SCHEDULER_SERVICE + "ReadLogs": VIEWERS,
    SCHEDULER_SERVICE + "FitModel": VIEWERS,
    SCHEDULER_SERVICE + "Explain": VIEWERS,
    SCHEDULER_SERVICE + "DescribeModel": VIEWERS,
    SCHEDULER_SERVICE + "Recommend": VIEWERS,
    SCHEDULER_SERVICE + "RefreshCatalogue": VIEWERS,
    SCHEDULER_SERVICE + "SearchModels": VIEWERS,
    SCHEDULER_SERVICE + "ListRepository": VIEWERS,
    SCHEDULER_SERVICE + "PullModel": VIEWERS,
    SCHEDULER_SERVICE + "StopPullModel": VIEWERS,
    SCHEDULER_SERVICE + "CopyModel": VIEWERS,
    SCHEDULER_SERVICE + "BenchModel": VIEWERS,
    SCHEDULER_SERVICE + "ChooseTemplate": VIEWERS,
    SCHEDULER_SERVICE + "GetStatus": VIEWERS,
    # What is deleted is gone for all.
    SCHEDULER_SERVICE + "RemoveModel": OWNERS,
    SCHEDULER_SERVICE + "PruneNodes": OWNERS,
    # Who belongs to the pool is decided where its authority is.
    SCHEDULER_SERVICE + "AddNode": OWNERS,
    SCHEDULER_SERVICE + "RemoveNode": OWNERS,
    SCHEDULER_SERVICE + "CreateInvite": OWNERS,
    SCHEDULER_SERVICE + "RenewCertificate": frozenset({Role.CLIENT}),
    # A worker works for the scheduler of its pool, and for this user's own.
    WORKER_SERVICE + "Describe": SCHEDULERS,
    WORKER_SERVICE + "Watch": SCHEDULERS,
    WORKER_SERVICE + "Fit": SCHEDULERS,
    WORKER_SERVICE + "Load": SCHEDULERS,
    WORKER_SERVICE + "Unload": SCHEDULERS,
    WORKER_SERVICE + "Pin": SCHEDULERS,
    WORKER_SERVICE + "Generate": SCHEDULERS,
    WORKER_SERVICE + "Work": SCHEDULERS,
    WORKER_SERVICE + "Embed": SCHEDULERS,
    WORKER_SERVICE + "Logs": SCHEDULERS,
    WORKER_SERVICE + "Drain": SCHEDULERS,
    WORKER_SERVICE + "Inspect": SCHEDULERS,
    WORKER_SERVICE + "HashModel": SCHEDULERS,
    WORKER_SERVICE + "Remove": SCHEDULERS,
    WORKER_SERVICE + "Prune": SCHEDULERS,
    WORKER_SERVICE + "SetTemplate": SCHEDULERS,
    WORKER_SERVICE + "SearchHub": SCHEDULERS,
    WORKER_SERVICE + "ListHub": SCHEDULERS,
    WORKER_SERVICE + "ChooseVariant": SCHEDULERS,
    WORKER_SERVICE + "Pull": SCHEDULERS,
    WORKER_SERVICE + "StopPull": SCHEDULERS,
    WORKER_SERVICE + "SendModel": SCHEDULERS,
    WORKER_SERVICE + "ReceiveModel": SCHEDULERS,
    # What of a machine is read is decided there.
    WORKER_SERVICE + "Add": OWNERS,
    WORKER_SERVICE + "TakeCertificate": frozenset({Role.SCHEDULER}),
}

PENALTY_SECONDS = 1.0
"""A call over the limit is answered after so long, so that trying again at once costs little."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = grpc.aio.ServicerContext[object, object]

caller: ContextVar[Peer] = ContextVar("caller", default=OWNER)
"""Who makes the call that is being served."""


TRUSTED = frozenset((Role.OWNER, Role.SCHEDULER))
"""Whose calls are not counted: the owner's, and those of the scheduler of the pool."""


class Gate(grpc.aio.ServerInterceptor):
    """Stands before every call of one caller.

    Args:
        peer: The caller.
        limits: What it may cost, unless it is trusted.
    """

    def __init__(self, peer: Peer, limits: Limits) -> None:
        self._peer = peer
        self._counts = None if peer.role in TRUSTED else _Counts(limits)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return what serves a call: the method itself, or a refusal."""
        method = handler_call_details.method
        if self._peer.role not in RULES.get(method, frozenset()):
            name = method.rpartition("/")[2]
            error = NotAllowed(
                f"A {self._peer.role} may not do this ({name}). Do it on the machine of the pool's "
                "scheduler, or through ssh there."
            )
            return _refusing(error, after_seconds=0.0)
        if self._counts is not None and (problem := self._counts.problem()):
            return _refusing(problem, PENALTY_SECONDS)
        handler = await continuation(handler_call_details)
        return None if handler is None else self._guarded(handler)

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Count a call while it lasts, and say whose it is."""
        caller.set(self._peer)
        if self._counts is None:
            yield
            return
        self._counts.running += 1
        try:
            yield
        finally:
            self._counts.running -= 1

    def _guarded(self, handler: Handler) -> Handler:
        """Return a method that is counted while it runs, and whose errors reach the caller."""
        # gRPC's types are those of its methods without asyncio.
        kinds: dict[tuple[bool, bool], tuple[Any, Callable[..., Handler]]] = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }
        inner, make = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
        readable: Callable[[Any], Any] = _all_readable if handler.request_streaming else _readable

        async def once(request: object, context: Context) -> object:
            try:
                with self._call():
                    return await inner(readable(request), context)
            except PotluckError as error:
                await abort(context, error)

        async def stream(request: object, context: Context) -> AsyncIterator[object]:
            try:
                with self._call():
                    async with aclosing(inner(readable(request), context)) as responses:
                        async for response in responses:
                            yield response
            except PotluckError as error:
                await abort(context, error)

        return make(
            stream if handler.response_streaming else once,
            _or_none(handler.request_deserializer),
            handler.response_serializer,
        )


class _Counts:
    """The calls of one client: those that run, and a bucket of those that may begin."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._allowance = 2.0 * limits.calls_per_second
        self._filled = time.monotonic()
        self.running = 0

    def problem(self) -> LimitReached | None:
        """Return why another call is too much, or take it out of the bucket."""
        limits, now = self._limits, time.monotonic()
        grown = self._allowance + (now - self._filled) * limits.calls_per_second
        self._allowance, self._filled = min(grown, 2.0 * limits.calls_per_second), now
        if self.running >= limits.calls_per_client:
            return LimitReached(
                f"This machine has {self.running} calls under way; the limit is "
                f"{limits.calls_per_client} (limits.calls_per_client)."
            )
        if self._allowance < 1:
            return LimitReached(
                f"This machine makes more than {limits.calls_per_second} calls a second "
                "(limits.calls_per_second)."
            )
        self._allowance -= 1
        return None


def _or_none(read: Callable[[bytes], object] | None) -> Callable[[bytes], object]:
    """Return what reads a message, with `None` for bytes that are none.

    gRPC would log where it failed, each time, and answer the caller that the server is broken.
    """

    def read_or_none(message: bytes) -> object:
        try:
            return message if read is None else read(message)
        except DecodeError:
            return None

    return read_or_none


def _readable(request: object) -> object:
    """Return a message. Raises `BadRequest` for one that could not be read."""
    if request is None:
        raise BadRequest("The call's message is malformed. Compare the versions.")
    return request


async def _all_readable(requests: AsyncIterator[object]) -> AsyncIterator[object]:
    """Yield messages. Raises `BadRequest` at one that could not be read."""
    async for request in requests:
        yield _readable(request)


def _refusing(error: PotluckError, after_seconds: float) -> Handler:
    """Return a method that fails, whatever the kind of the call."""

    async def refuse(_: object, context: Context) -> None:
        await asyncio.sleep(after_seconds)
        await abort(context, error)

    return grpc.unary_unary_rpc_method_handler(cast(Any, refuse))
