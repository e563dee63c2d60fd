"""`potluck drain`, `load`, `unload` and `pin`: what machines are told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from potluck_proto.errors import BadRequest, UnknownModel
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.connect import running_pool
from potluck_tui.orders import Drain, Load, Order, Pin, Unload
from potluck_tui.pool import ModelView


async def drain(options: argparse.Namespace, home: Home) -> int:
    """Drain a machine, or have it take work again."""
    async with running_pool(home, options.ssh) as client:
        await _give(client, [Drain(options.node, options.node, not options.off)])
    return 0


async def load(options: argparse.Namespace, home: Home) -> int:
    """Load a model where it is placed, or on a machine."""
    where = (options.node, options.node) if options.node else ()
    async with running_pool(home, options.ssh) as client:
        loaded = await Load(options.model, *where).carry_out(client)
        print(clean(loaded.done))
    return 0


async def unload(options: argparse.Namespace, home: Home) -> int:
    """Unload a model from a machine, or wherever it is in memory."""
    async with running_pool(home, options.ssh) as client:
        places = await _places(client, options)
        await _give(client, [Unload(model, node, node) for model, node in places])
    return 0


async def pin(options: argparse.Namespace, home: Home) -> int:
    """Pin a model, or no longer, on a machine or wherever it is in memory."""
    async with running_pool(home, options.ssh) as client:
        places = await _places(client, options)
        await _give(client, [Pin(model, node, node, not options.off) for model, node in places])
    return 0


async def _give(client: PoolClient, orders: Sequence[Order]) -> None:
    for order in orders:
        await order.carry_out(client)
        print(clean(order.done))


async def _places(client: PoolClient, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the model that is meant and the machines that hold it.

    Raises:
        UnknownModel: The pool has none of that name.
        BadRequest: It is in no memory.
    """
    response = await client.call(client.stub.ListModels, pb.ListModelsRequest())
    models = [ModelView.from_proto(model) for model in response.models]
    named = [m for m in models if options.model in (m.label, m.label.partition(":")[0])]
    if not named:
        raise UnknownModel(f"No machine has {options.model!r}. `potluck models` lists them.")
    places = [
        (model.label, node)
        for model in named
        for node in model.loaded_on
        if options.node in ("", node)
    ]
    if not places:
        where = options.node or "any machine"
        raise BadRequest(f"{options.model} is not in memory on {where}.")
    return places
