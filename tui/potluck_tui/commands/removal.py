"""`potluck rm` and `potluck prune`: deleting models, and what nobody needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.commands.printing import print_json
from potluck_tui.connect import running_pool
from potluck_tui.words import size

REMOVE_SECONDS = 130.0


async def remove(options: argparse.Namespace, home: Home) -> int:
    """Delete a model's files; without `--yes`, ask first where there is somebody to ask."""
    request = pb.RemoveModelRequest(model=options.model, node=options.node, dry_run=True)
    async with running_pool(home, options.ssh) as client:
        planned = await client.call(client.stub.RemoveModel, request, REMOVE_SECONDS)
        doing = not options.dry_run and _is_agreed(planned.node_name, planned.removals, options)
        if doing:
            request.dry_run = False
            # Another may have the model by now; what was agreed to is on this node.
            request.node = request.node or planned.node_name
            planned = await client.call(client.stub.RemoveModel, request, REMOVE_SECONDS)
    if options.json:
        print_json(planned)
    else:
        _print(planned.node_name, planned.removals, done=doing)
    return 0 if doing or options.dry_run else 1


async def prune(options: argparse.Namespace, home: Home) -> int:
    """Say what nobody needs; with `--yes`, delete it."""
    request = pb.PruneNodesRequest(node=options.node, dry_run=not options.yes)
    async with running_pool(home, options.ssh) as client:
        response = await client.call(client.stub.PruneNodes, request, REMOVE_SECONDS)
    if options.json:
        print_json(response)
        return 0
    for node in response.nodes:
        if node.HasField("problem"):
            print(f"{clean(node.node_name)}: {clean(node.problem.message)}")
        elif node.removals:
            _print(node.node_name, node.removals, done=options.yes)
        else:
            print(f"{clean(node.node_name)}: nothing that nobody needs")
    if not options.yes and any(node.removals for node in response.nodes):
        print("`potluck prune --yes` deletes it.")
    return 0


def _is_agreed(node: str, removals: Iterable[types.Removal], options: argparse.Namespace) -> bool:
    """Say whether to delete: by `--yes`, or by the answer of who is asked."""
    if options.yes:
        return True
    if not sys.stdin.isatty():
        print("Nothing is deleted without --yes where nobody can be asked.", file=sys.stderr)
        return False
    removals = list(removals)
    _print(node, removals, done=False)
    doing = "Forget" if all(removal.forgotten for removal in removals) else "Delete"
    return input(f"{doing} it? [y/N] ").strip().lower() in ("y", "yes")


def _print(node: str, removals: Iterable[types.Removal], *, done: bool) -> None:
    removals = list(removals)
    for removal in removals:
        reason = f" ({clean(removal.reason)})" if removal.reason else ""
        print(f"{clean(node)}: {clean(removal.path)}{reason}")
    if removals and all(removal.forgotten for removal in removals):
        print(f"{clean(node)}: {'forgotten' if done else 'would be forgotten'}; nothing is deleted")
        return
    freed = size(sum(removal.freed_bytes for removal in removals))
    what = "deleted; that freed" if done else "would be deleted; that would free"
    print(f"{clean(node)}: {len(removals)} {what} {freed}")
