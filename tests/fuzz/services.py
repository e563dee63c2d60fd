"""Any bytes as a call at the services of both daemons, over real gRPC."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from potluck_proto.home import Home
from potluck_proto.network import dial, unix_address
from potluck_proto.v1 import scheduler_pb2, types_pb2, worker_pb2
from potluck_scheduler.daemon import SchedulerDaemon
from potluck_scheduler.settings import SchedulerSettings
from potluck_worker.daemon import WorkerDaemon
from potluck_worker.settings import WorkerSettings

CALL_SECONDS = 15.0

NOT_CALLED = {"AddNode", "SearchHub", "ListHub", "Pull"}
"""They would go to any address that the bytes name, or to the hub."""

EXPECTED = set(grpc.StatusCode) - {grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
"""Any end but that of a method that did not know what to do, or hung."""

MALFORMED = b"\xff" * 4

MESSAGES = {
    "Submit": scheduler_pb2.SubmitRequest(content="Hi", model="echo", request_id="a"),
    "Regenerate": scheduler_pb2.RegenerateRequest(chat_id="a", message_id="b"),
    "UpdateChat": scheduler_pb2.UpdateChatRequest(chat_id="a", title="b", pinned=True),
    "SavePreset": scheduler_pb2.SavePresetRequest(preset=scheduler_pb2.Preset(name="a")),
    "CreateInvite": scheduler_pb2.CreateInviteRequest(role="client"),
    "ListChats": scheduler_pb2.ListChatsRequest(limit=3, page_token="1"),
    "SearchChats": scheduler_pb2.SearchChatsRequest(query='"a" OR b*'),
    "ReadLogs": scheduler_pb2.ReadLogsRequest(scheduler=True, lines=5),
    "Generate": worker_pb2.GenerateRequest(
        generation_id="a",
        model="echo",
        messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content="Hi")],
        sampling=types_pb2.Sampling(max_tokens=4),
    ),
    "Embed": worker_pb2.EmbedRequest(model="echo", inputs=["Hi"]),
    "Logs": worker_pb2.LogsRequest(model="echo", lines=3),
}


class Calls:
    """One daemon, and calls of it: the first byte chooses the method, the rest is the message.

    Args:
        daemon: `scheduler` or `worker`.
    """

    def __init__(self, daemon: str) -> None:
        module = scheduler_pb2 if daemon == "scheduler" else worker_pb2
        (service,) = module.DESCRIPTOR.services_by_name.values()
        self._prefix = f"/{service.full_name}/"
        self._methods: list[MethodDescriptor] = _methods(service)
        self._loop = asyncio.new_event_loop()
        # It goes with the process, which the fuzzer ends.
        self._home = Home(Path(tempfile.mkdtemp(prefix="pl-")))
        self._loop.run_until_complete(self._start(daemon))

    async def _start(self, daemon: str) -> None:
        home = self._home
        home.prepare()
        (home.models / "echo.fake.toml").write_text("")
        self._running: SchedulerDaemon | WorkerDaemon
        if daemon == "scheduler":
            settings = SchedulerSettings(listen="127.0.0.1:0", join_listen="127.0.0.1:0")
            self._running, socket = SchedulerDaemon(home, settings), home.scheduler_socket
        else:
            self._running, socket = WorkerDaemon(home, WorkerSettings()), home.worker_socket
        await self._running.start()
        self._channel = dial(unix_address(socket))

    def take(self, data: bytes) -> None:
        """Make one call; see what its first answer is."""
        if data:
            method = self._methods[data[0] % len(self._methods)]
            self._loop.run_until_complete(self._call(method, data[1:]))

    async def _call(self, method: MethodDescriptor, message: bytes) -> None:
        name = self._prefix + method.name
        try:
            if method.server_streaming:
                follow: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
                follow = self._channel.unary_stream(name)
                stream = follow(message, timeout=CALL_SECONDS)
                await stream.read()
                stream.cancel()
            else:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
                call = self._channel.unary_unary(name)
                await call(message, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            assert error.code() in EXPECTED, f"{method.name}: {error.details()}"

    def examples(self) -> Sequence[bytes]:
        """Return a good call of each method, and one whose message is none."""
        found = []
        for number, method in enumerate(self._methods):
            good = MESSAGES[method.name].SerializeToString() if method.name in MESSAGES else b""
            found += [bytes([number]) + good, bytes([number]) + MALFORMED]
        return found


def _methods(service: ServiceDescriptor) -> list[MethodDescriptor]:
    return [method for method in service.methods if method.name not in NOT_CALLED]
