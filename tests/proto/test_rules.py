from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from potluck_proto import network
from potluck_proto.doors import Doors
from potluck_proto.errors import (
    LimitReached,
    NotAllowed,
    NotEnoughMemory,
    PotluckError,
    from_rpc,
)
from potluck_proto.identity import OWNER, Peer, Role
from potluck_proto.ids import NodeId
from potluck_proto.limits import Limits
from potluck_proto.refusals import Refusals
from potluck_proto.rules import RULES, Gate, caller
from potluck_proto.v1 import scheduler_pb2, worker_pb2

SERVICES = (
    scheduler_pb2.DESCRIPTOR.services_by_name["SchedulerService"],
    worker_pb2.DESCRIPTOR.services_by_name["WorkerService"],
)
METHODS = {
    f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods
}

SUBMIT = "/potluck.v1.SchedulerService/Submit"
WATCH = "/potluck.v1.SchedulerService/WatchPool"
GENERATE = "/potluck.v1.WorkerService/Generate"
NOBODYS = "/potluck.v1.SchedulerService/NotInTheTable"


def test_each_method_of_the_contract_has_a_rule_and_no_rule_is_for_nothing() -> None:
    assert set(RULES) == METHODS


def test_a_worker_may_call_nothing_and_a_client_no_worker() -> None:
    for method, roles in RULES.items():
        assert Role.WORKER not in roles
        if "WorkerService" in method:
            assert Role.CLIENT not in roles
        else:
            assert Role.SCHEDULER not in roles


def peer(role: Role) -> Peer:
    return OWNER if role is Role.OWNER else Peer(role, NodeId("n"), "name", "m")


class Everything(grpc.GenericRpcHandler):
    """Serves any method: one whose name begins with Watch as a stream that waits, others at once.

    Attributes:
        seen: Who called.
        error: What methods fail with.
    """

    def __init__(self) -> None:
        self.seen: list[Peer] = []
        self.error: PotluckError | None = None

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def once(_: bytes, __: object) -> bytes:
            self.seen.append(caller.get())
            if self.error is not None:
                raise self.error
            return b"done"

        async def stream(_: bytes, __: object) -> AsyncIterator[bytes]:
            self.seen.append(caller.get())
            yield b"first"
            if self.error is not None:
                raise self.error
            await asyncio.get_running_loop().create_future()

        if "Watch" in handler_call_details.method:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(once)


@asynccontextmanager
async def served(
    folder: Path, role: Role, limits: Limits | None = None
) -> AsyncIterator[tuple[grpc.aio.Channel, Everything]]:
    """Serve a caller of some role behind a gate."""
    everything = Everything()
    server = grpc.aio.server(interceptors=[Gate(peer(role), limits or Limits())])
    server.add_generic_rpc_handlers((everything,))
    network.listen_unix(server, folder / "s.sock")
    await server.start()
    async with network.dial(network.unix_address(folder / "s.sock")) as channel:
        yield channel, everything
    await server.stop(None)


async def call(channel: grpc.aio.Channel, method: str) -> bytes:
    """Make a call. Raises `PotluckError`."""
    try:
        make: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        return await make(b"")
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, "It") from error


@pytest.mark.parametrize(
    ("role", "method", "allowed"),
    [
        (Role.OWNER, SUBMIT, True),
        (Role.CLIENT, SUBMIT, True),
        (Role.WORKER, SUBMIT, False),
        (Role.SCHEDULER, SUBMIT, False),
        (Role.OWNER, GENERATE, True),
        (Role.SCHEDULER, GENERATE, True),
        (Role.CLIENT, GENERATE, False),
        (Role.WORKER, GENERATE, False),
        *((role, NOBODYS, False) for role in Role),
    ],
)
async def test_the_gate_holds_the_table(
    short_tmp: Path, role: Role, method: str, allowed: bool
) -> None:
    async with served(short_tmp, role) as (channel, everything):
        if allowed:
            assert await call(channel, method) == b"done"
            assert everything.seen == [peer(role)]
        else:
            with pytest.raises(NotAllowed, match=f"A {role} may not do this"):
                await call(channel, method)
            assert not everything.seen


def watch(channel: grpc.aio.Channel) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
    """Begin a stream."""
    begin: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(WATCH)
    return begin(b"")


async def test_a_stream_that_is_not_allowed_never_begins(short_tmp: Path) -> None:
    async with served(short_tmp, Role.WORKER) as (channel, everything):
        with pytest.raises(grpc.aio.AioRpcError, match="A worker may not do this"):
            await watch(channel).read()
        assert not everything.seen


async def test_what_a_method_raises_reaches_its_caller_as_it_is(short_tmp: Path) -> None:
    async with served(short_tmp, Role.CLIENT) as (channel, everything):
        everything.error = NotEnoughMemory("It needs 2 and 1 is free.", needed_bytes=2)
        with pytest.raises(NotEnoughMemory) as caught:
            await call(channel, SUBMIT)
        assert caught.value == everything.error
        stream = watch(channel)
        assert await stream.read() == b"first"
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            await stream.read()
        assert from_rpc(broken.value, "It") == everything.error


async def test_a_client_with_too_many_streams_gets_no_more_until_one_ends(short_tmp: Path) -> None:
    limits = Limits(calls_per_client=2)
    async with served(short_tmp, Role.CLIENT, limits) as (channel, _):
        streams = [watch(channel) for _ in range(2)]
        for stream in streams:
            assert await stream.read() == b"first"
        with pytest.raises(LimitReached, match=r"2 calls under way.*calls_per_client"):
            await call(channel, SUBMIT)
        streams[0].cancel()
        while True:
            try:
                assert await call(channel, SUBMIT) == b"done"
            except LimitReached:
                continue
            break


async def test_the_owner_may_have_as_many_streams_as_he_likes(short_tmp: Path) -> None:
    everything = Everything()
    doors = Doors(
        lambda server: server.add_generic_rpc_handlers((everything,)),
        short_tmp,
        Limits(calls_per_client=2),
        Refusals(lambda: None),
    )
    await doors.open_local(short_tmp / "s.sock")
    async with network.dial(network.unix_address(short_tmp / "s.sock")) as channel:
        streams = [watch(channel) for _ in range(200)]
        assert {await stream.read() for stream in streams} == {b"first"}
    await doors.stop(0)


async def test_a_client_that_calls_too_often_is_slowed_down(short_tmp: Path) -> None:
    limits = Limits(calls_per_second=2)
    async with served(short_tmp, Role.CLIENT, limits) as (channel, everything):
        results = await asyncio.gather(
            *(call(channel, SUBMIT) for _ in range(20)), return_exceptions=True
        )
    refused = [result for result in results if isinstance(result, PotluckError)]
    assert 15 <= len(refused) <= 16
    assert all("2 calls a second" in error.message for error in refused)
    assert len(everything.seen) == 20 - len(refused)


@pytest.mark.parametrize("role", [Role.OWNER, Role.SCHEDULER])
async def test_the_owner_and_the_scheduler_are_not_counted(short_tmp: Path, role: Role) -> None:
    method = SUBMIT if role is Role.OWNER else GENERATE
    async with served(short_tmp, role, Limits(calls_per_second=1)) as (channel, everything):
        await asyncio.gather(*(call(channel, method) for _ in range(20)))
    assert len(everything.seen) == 20
