"""`potluck invite`, `join`, `leave`, and `nodes add` and `remove`: who belongs to the pool."""

from __future__ import annotations

import argparse
import getpass
import json
import sys

from potluck_proto.errors import BadRequest
from potluck_proto.home import Home
from potluck_proto.invite import LINE_LIMIT
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui import joining
from potluck_tui.clean import clean
from potluck_tui.connect import connected

ADD_SECONDS = 60.0


async def invite(options: argparse.Namespace, home: Home) -> int:
    """Print the line by which one machine can join: to stdout, and nothing else there."""
    async with connected(home, options.ssh) as client:
        request = pb.CreateInviteRequest(role=options.role)
        response = await client.call(client.stub.CreateInvite, request)
    if options.json:
        print(json.dumps({"line": response.line, "valid_seconds": response.valid_seconds}))
        return 0
    minutes = response.valid_seconds / 60
    print(
        "Run `potluck join` on the other machine and give it this line, once, within "
        f"{minutes:.0f} minutes.\nIt is a password: carry it as one.\n",
        file=sys.stderr,
    )
    print(response.line)
    return 0


async def join(options: argparse.Namespace, home: Home) -> int:
    """Join a pool, and have the worker here work for it, or the terminal here show it."""
    joined = await joining.follow(_read_line(), home)
    if options.json:
        peer = joined.identity.peer
        print(json.dumps({"role": peer.role, "pool": joined.identity.pool}))
    else:
        print(clean(joined.words))
    return 0


async def leave(options: argparse.Namespace, home: Home) -> int:
    """Forget the pools that this machine joined. The pool forgets it by `potluck nodes remove`."""
    left = joining.leave(home)
    print(f"Left as {' and '.join(left)}." if left else "This machine joined no pool.")
    return 0


async def add(options: argparse.Namespace, home: Home) -> int:
    """Add a worker by address, and say whether it answers."""
    async with connected(home, options.ssh) as client:
        request = pb.AddNodeRequest(address=options.address)
        node = (await client.call(client.stub.AddNode, request, ADD_SECONDS)).node
    name = node.state.name or node.address
    if options.json:
        health = pb.NodeHealth.Name(node.health).removeprefix("NODE_HEALTH_").lower()
        print(json.dumps({"name": name, "health": health, "problem": node.problem.message}))
    elif node.health == pb.NODE_HEALTH_READY:
        print(clean(f"{name}: ready"))
    else:
        print(
            clean(
                f"{node.address} was added and is not ready: {node.problem.message or 'no answer'}"
            )
        )
    return 0 if node.health == pb.NODE_HEALTH_READY else 1


async def remove(options: argparse.Namespace, home: Home) -> int:
    """Let a machine in no more."""
    async with connected(home, options.ssh) as client:
        await client.call(client.stub.RemoveNode, pb.RemoveNodeRequest(node=options.node))
    print(clean(f"{options.node}: removed; what it had open has ended."))
    return 0


def _read_line() -> str:
    """Return the line of an invitation, which is on no command line and on no screen."""
    if sys.stdin.isatty():
        return getpass.getpass("The line of `potluck invite` (it is not shown): ")
    line = sys.stdin.read(LINE_LIMIT * 2)
    if not line.strip():
        raise BadRequest("There is no invitation. Pipe its line in, or run `potluck join` alone.")
    return line
