"""`potluck logs`: what the parts of the pool have written."""

from __future__ import annotations

import argparse
import json
import sys

from potluck_proto.errors import BadRequest
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.commands.printing import check_count
from potluck_tui.connect import connected
from potluck_tui.launch import until_a_node_is_ready


async def logs(options: argparse.Namespace, home: Home) -> int:
    """Show a log; as JSON, an object for each line."""
    check_count("--lines", options.lines)
    if options.scheduler and (options.model or options.node):
        raise BadRequest(
            "--scheduler shows the scheduler's own log; name no model or node with it."
        )
    async with connected(home, options.ssh) as client:
        if not options.scheduler:
            await until_a_node_is_ready(client)
        await _show(client, options)
    return 0


async def _show(client: PoolClient, options: argparse.Namespace) -> None:
    request = pb.ReadLogsRequest(
        model=options.model,
        node=options.node,
        scheduler=options.scheduler,
        lines=options.lines,
        follow=options.follow,
    )
    node_name = ""
    async for response in client.read_logs(request):
        node_name = response.node_name or node_name
        for line in response.lines:
            print(json.dumps({"node": node_name, "line": line}) if options.json else clean(line))
        sys.stdout.flush()
