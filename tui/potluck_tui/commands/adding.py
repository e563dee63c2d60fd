"""`potluck add`: models of this machine, used where they lie."""

from __future__ import annotations

import argparse
from pathlib import Path

import grpc

from potluck_proto import network
from potluck_proto.errors import from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import worker_pb2 as pb
from potluck_proto.v1.worker_pb2_grpc import WorkerServiceStub
from potluck_tui.clean import clean
from potluck_tui.commands.printing import print_json
from potluck_tui.launch import ensure_daemon

ADD_SECONDS = 300.0
"""Each file is inspected, which takes some seconds for a large one."""


async def add(options: argparse.Namespace, home: Home) -> int:
    """Have this machine's worker use what lies at a path."""
    path = _from_the_root(options.path)
    await ensure_daemon(home, "worker")
    async with network.dial(network.unix_address(home.worker_socket)) as channel:
        request = pb.AddRequest(path=str(path))
        try:
            response = await WorkerServiceStub(channel).Add(request, timeout=ADD_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, "The worker of this machine") from error
    if options.json:
        print_json(response)
        return 0
    for model in response.models:
        name = clean(":".join(filter(None, (model.name, model.quantization))))
        problem = clean(model.problem.message) if model.HasField("problem") else ""
        print(f"{name} cannot be used: {problem}" if problem else f"{name} is used where it lies.")
    print("`potluck rm MODEL` forgets it again; the files stay.")
    return 0


def _from_the_root(typed: str) -> Path:
    return Path(typed).expanduser().absolute()
