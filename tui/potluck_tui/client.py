"""The viewer's side of the scheduler: calls that fail in words, streams that heal by themselves.

Consistency: `attach` yields every code point of an answer exactly once and in order, however often
the connection breaks, because the scheduler keeps the answer and the client counts what it has.
`watch_pool` may skip states but always ends up at the newest.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import grpc

from potluck_proto import PROTOCOL_VERSION, network, tls
from potluck_proto.errors import NotPaired, PotluckError, ProtocolMismatch, Unreachable, from_rpc
from potluck_proto.identity import SCHEDULER_SERVER_NAME, Identity
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from potluck_proto.v1.scheduler_pb2_grpc import SchedulerServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0


class PoolClient:
    """A connection to one scheduler.

    Args:
        address: `unix:/path` or `host:port`.
        identity: What this machine shows at a port.
    """

    def __init__(self, address: str, identity: Identity | None = None) -> None:
        self.address = address
        self._identity = identity
        self._channel: grpc.aio.Channel | None = None

    @cached_property
    def stub(self) -> SchedulerServiceAsyncStub:
        """The typed stub; made at first use, since a channel belongs to the running event loop."""
        self._channel = (
            network.dial(self.address)
            if self._identity is None
            else tls.channel(self.address, self._identity, SCHEDULER_SERVER_NAME)
        )
        return pb_grpc.SchedulerServiceStub(self._channel)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_seconds: float = 10.0,
    ) -> Response:
        """Make one call, for example `await client.call(client.stub.ListChats, request)`.

        Raises:
            PotluckError: What the scheduler said, or `Unreachable`.
        """
        try:
            return await method(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise await self._failure(error) from error

    async def _failure(self, error: grpc.aio.AioRpcError) -> PotluckError:
        """Return the failure behind a failed call; where TLS failed, ask why."""
        failure = from_rpc(error, self._who)
        if isinstance(failure, Unreachable) and self._identity is not None:
            try:
                await tls.greet(self.address, self._identity)
            except NotPaired as refusal:
                return refusal
            except PotluckError:
                pass
        return failure

    async def check_version(self) -> pb.GetStatusResponse:
        """Return the scheduler's status; raise `ProtocolMismatch` if it speaks another version."""
        status = await self.call(self.stub.GetStatus, pb.GetStatusRequest())
        if status.protocol_version != PROTOCOL_VERSION:
            raise ProtocolMismatch(
                f"{self._who} speaks protocol version {status.protocol_version}, this program "
                f"{PROTOCOL_VERSION}. Stop it with `potluck down`, so that this version starts.",
            )
        return status

    async def whole_chat(
        self, chat_id: str, known_revision: int = 0, *, all_branches: bool = False
    ) -> pb.GetChatResponse:
        """Return a chat with all pages of its messages (see `GetChatRequest`).

        Raises:
            UnknownChat: There is none of that id.
        """
        request = pb.GetChatRequest(
            chat_id=chat_id, known_revision=known_revision, all_branches=all_branches
        )
        chat = await self.call(self.stub.GetChat, request)
        pages, page = [chat.messages], chat
        while page.has_earlier:
            request.before_message_id = page.messages[0].message_id
            page = await self.call(self.stub.GetChat, request)
            pages.append(page.messages)
        messages = [message for page in reversed(pages) for message in page]
        return pb.GetChatResponse(chat=chat.chat, messages=messages, unchanged=chat.unchanged)

    async def attach(
        self, generation_id: str, from_offset: int = 0
    ) -> AsyncIterator[pb.AnswerEvent | None]:
        """Follow an answer to its end.

        Args:
            generation_id: Which answer.
            from_offset: Code points of it that the viewer has already.

        Yields:
            What the scheduler sends; `None` when the connection is lost and being tried again.
            After a reconnection a new `head` comes first.

        Raises:
            PotluckError: The scheduler does not know the answer.
        """
        offset = from_offset
        delay_seconds = FIRST_RETRY_SECONDS
        while True:
            call = self.stub.Attach(
                pb.AttachRequest(generation_id=generation_id, from_offset=offset)
            )
            try:
                async for response in call:
                    delay_seconds = FIRST_RETRY_SECONDS
                    for event in response.events:
                        offset = _offset_after(event, offset)
                        yield event
                    if response.events[-1].HasField("end"):
                        return
            except grpc.aio.AioRpcError as error:
                await self._raise_unless_unreachable(error)
            finally:
                call.cancel()
            yield None
            delay_seconds = await _wait(delay_seconds)

    async def ask(
        self, request: pb.SubmitRequest
    ) -> AsyncIterator[pb.SubmitResponse | pb.AnswerEvent | None]:
        """Submit a prompt and follow its answer, as `attach` does.

        Yields:
            How the prompt was stored, then as `attach`.

        Raises:
            PotluckError: The prompt was not taken.
        """
        submitted, offset = None, 0
        call = self.stub.Ask(pb.AskRequest(submit=request))
        try:
            async for response in call:
                if submitted is None:
                    submitted = response.submitted
                    yield submitted
                for event in response.events:
                    offset = _offset_after(event, offset)
                    yield event
                    if event.HasField("end"):
                        return
        except grpc.aio.AioRpcError as error:
            if submitted is None:
                raise from_rpc(error, self._who) from error
            await self._raise_unless_unreachable(error)
        finally:
            call.cancel()
        yield None
        assert submitted is not None
        async for event_or_gap in self.attach(submitted.generation_id, offset):
            yield event_or_gap

    async def watch_pool(self) -> AsyncIterator[pb.WatchPoolResponse | None]:
        """Follow the pool for ever; `None` when the connection is lost and being tried again.

        Raises:
            ProtocolMismatch: A scheduler of another version has taken the place of the first.
            PotluckError: The scheduler refuses.
        """
        delay_seconds, lost = FIRST_RETRY_SECONDS, False
        while True:
            call = self.stub.WatchPool(pb.WatchPoolRequest())
            try:
                if lost:
                    await self.check_version()
                async for response in call:
                    delay_seconds = FIRST_RETRY_SECONDS
                    yield response
            except Unreachable:
                pass
            except grpc.aio.AioRpcError as error:
                await self._raise_unless_unreachable(error)
            finally:
                call.cancel()
            lost = True
            yield None
            delay_seconds = await _wait(delay_seconds)

    def read_logs(self, request: pb.ReadLogsRequest) -> AsyncIterator[pb.ReadLogsResponse]:
        """Read a log of the pool, for ever where `follow` is set.

        Raises:
            PotluckError: What the scheduler said, or `Unreachable` when the connection breaks; a
                log has no numbers by which it could go on where it was.
        """
        return self._all(self.stub.ReadLogs(request))

    async def _all(
        self, call: grpc.aio.UnaryStreamCall[Request, Response]
    ) -> AsyncIterator[Response]:
        """Yield what a call streams; end it where the viewer leaves. Raises `PotluckError`."""
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self._who) from error
        finally:
            call.cancel()

    def copy(self, request: pb.CopyModelRequest) -> AsyncIterator[pb.CopyModelResponse]:
        """Copy a model from one node to another, or follow the copy; leaving does not end it.

        Raises:
            PotluckError: As for `pull`.
        """
        return self._all(self.stub.CopyModel(request))

    def bench(self, request: pb.BenchModelRequest) -> AsyncIterator[pb.BenchModelResponse]:
        """Measure a model; leaving ends it, and nothing is kept.

        Raises:
            PotluckError: Why it ended without figures, or `Unreachable`.
        """
        return self._all(self.stub.BenchModel(request))

    def pull(self, request: pb.PullModelRequest) -> AsyncIterator[pb.PullModelResponse]:
        """Have a node fetch a model, or follow the fetch under way; leaving does not end it.

        Raises:
            PotluckError: Why it ended without the model, or `Unreachable` when the connection
                breaks; the fetch goes on then, and asking again follows it.
        """
        return self._all(self.stub.PullModel(request))

    async def _raise_unless_unreachable(self, error: grpc.aio.AioRpcError) -> None:
        """Raise what the scheduler said; return where it is away and may come back."""
        failure = await self._failure(error)
        if not isinstance(failure, Unreachable):
            raise failure from error

    async def close(self) -> None:
        """Close the connection; open streams end."""
        if self._channel is not None:
            await self._channel.close()

    @property
    def _who(self) -> str:
        return f"The scheduler at {self.address}"


def user_at_host() -> str:
    """Return who asks, so that those who wait are served in turn."""
    return f"{os.getuid()}@{socket.gethostname()}"


def _offset_after(event: pb.AnswerEvent, offset: int) -> int:
    """Return the code points that a viewer has after an event."""
    if event.HasField("delta"):
        return event.delta.text_offset + len(event.delta.text)
    return offset


async def _wait(delay_seconds: float) -> float:
    """Wait before a retry; return the delay of the next one."""
    await asyncio.sleep(delay_seconds)
    return min(delay_seconds * 2, LONGEST_RETRY_SECONDS)
