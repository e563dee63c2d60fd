"""`potluck template`: in which prompt format a model is asked."""

from __future__ import annotations

import argparse

from potluck_proto.errors import from_proto
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.commands.printing import print_json
from potluck_tui.connect import running_pool

OWN = "own"
"""What a person types for the template of the file or of the settings."""

CHOOSE_SECONDS = 130.0
"""Answers under way get time to end first."""


async def template(options: argparse.Namespace, home: Home) -> int:
    """Have the machines that have a model ask it in a prompt format; 1 where one refuses."""
    name = "" if options.template == OWN else options.template
    request = pb.ChooseTemplateRequest(model=options.model, node=options.node, template=name)
    async with running_pool(home, options.ssh) as client:
        response = await client.call(client.stub.ChooseTemplate, request, CHOOSE_SECONDS)
    if options.json:
        print_json(response)
    else:
        print("\n".join(clean(_line(options, node)) for node in response.nodes))
    return int(any(node.HasField("problem") for node in response.nodes))


def _line(options: argparse.Namespace, node: pb.NodeTemplate) -> str:
    if node.HasField("problem"):
        return f"{node.node_name}: {from_proto(node.problem).message}"
    how = "as its file or the settings have it" if options.template == OWN else options.template
    return f"{options.model} on {node.node_name}: {how}, from the next answer on"
