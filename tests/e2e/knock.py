"""Call a worker with an identity, as a scheduler does: python -m e2e.knock HOST:PORT FILE."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from potluck_proto import tls
from potluck_proto.errors import PotluckError
from potluck_proto.identity import Identity
from potluck_proto.v1 import worker_pb2 as worker
from potluck_proto.v1 import worker_pb2_grpc


async def main(address: str, path: Path) -> None:
    """Print the worker's name, or why it does not answer."""
    identity = Identity.read(path)
    try:
        peer = await tls.greet(address, identity)
        async with tls.channel(address, identity, peer.server_name) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            print("in:", (await stub.Describe(worker.DescribeRequest())).state.name)
    except PotluckError as error:
        print("out:", error.message)


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
