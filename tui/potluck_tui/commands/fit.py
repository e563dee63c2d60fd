"""`potluck fit`: what a model takes on each node, whether that fits, and what would."""

from __future__ import annotations

import argparse

from potluck_proto.errors import BadRequest
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.commands.printing import print_json
from potluck_tui.connect import running_pool
from potluck_tui.fit_lines import node_lines

FIT_SECONDS = 100.0

LEAST = {"context": 1, "slots": 1, "gpu_layers": 0}
"""The least value of each option that is a number."""


async def fit(options: argparse.Namespace, home: Home) -> int:
    """Print a verdict for each node that has the model; 1 where it fits on none."""
    request = pb.FitModelRequest(
        model=options.model, node=options.node, options=_load_options(options)
    )
    async with running_pool(home, options.ssh) as client:
        response = await client.call(client.stub.FitModel, request, FIT_SECONDS)
    if options.json:
        print_json(response)
    else:
        print(clean("\n\n".join("\n".join(node_lines(node)) for node in response.nodes)))
    return 0 if any(node.fit.fits for node in response.nodes) else 1


def _load_options(options: argparse.Namespace) -> types.LoadOptions:
    """Return what was asked for. Raises `BadRequest` for a number that cannot be."""
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and not least <= value < 2**32:
            raise BadRequest(f"--{name.replace('_', '-')} cannot be {value}; the least is {least}.")
    return types.LoadOptions(
        context_length=options.context or 0,
        slots=options.slots or 0,
        kv_type=options.kv_type or "",
        gpu_layers=options.gpu_layers,
        flash_attention=options.flash_attention and options.flash_attention == "on",
    )
