"""`potluck nodes` and `potluck models`: the pool as tables."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from potluck_proto.errors import NoNodes
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.commands.printing import print_json, print_table
from potluck_tui.connect import connected, running_pool
from potluck_tui.knowledge.primer import explanation
from potluck_tui.launch import until_a_node_is_ready
from potluck_tui.model_facts import Fact, facts
from potluck_tui.pool import refusal_words, stranger_words
from potluck_tui.words import COLUMNS, NO_MACHINE, size

GIB = 2**30
LOOK_SECONDS = 4.0
"""How long a pool that just started has to find a worker before what there is is listed."""

DESCRIBE_SECONDS = 40.0
HASH_SECONDS = 3600.0
"""A large model on a slow disk takes long to be read whole."""


async def nodes(options: argparse.Namespace, home: Home) -> int:
    """List the machines of the pool."""
    async with connected(home, options.ssh) as client:
        with suppress(NoNodes):  # whatever there is, is listed
            await until_a_node_is_ready(client, LOOK_SECONDS)
        response = await client.call(client.stub.ListNodes, pb.ListNodesRequest())
    if options.json:
        print_json(response)
        return 0
    rows = [_node_row(node) for node in response.nodes]
    header = ["NODE", "STATE", "MEMORY FREE", "LOADED", "TOKENS/S", "W", "FOUND BY", "ADDRESS"]
    if rows:
        print_table(header, rows, ("FOUND BY", "W", "ADDRESS", "TOKENS/S"))
    else:
        print(NO_MACHINE, file=sys.stderr)
    for node in response.nodes:
        _print_problems(node)
    _print_others(response)
    return 0


def _print_others(response: pb.ListNodesResponse) -> None:
    """Say which machines are paired, which could be, and who was turned away."""
    if response.members:
        print("\nPaired: " + ", ".join(clean(f"{m.name} ({m.role})") for m in response.members))
    if response.strangers:
        print("\nOn this network, and not of this pool:")
    for stranger in response.strangers:
        print(f"  {stranger_words(stranger)}")
    if response.strangers:
        print("To pair one, run `potluck invite` here and `potluck join` there.")
    for who, refusals in (
        ("The scheduler", response.refusals),
        *((node.state.name, node.state.refusals) for node in response.nodes),
    ):
        for refusal in refusals:
            print(f"{clean(who)} turned away {refusal_words(refusal)}")


async def models(options: argparse.Namespace, home: Home) -> int:
    """List the models of the pool, or say all that is known of one."""
    if options.model:
        return await _model(options, home)
    async with running_pool(home, options.ssh) as client:
        response = await client.call(client.stub.ListModels, pb.ListModelsRequest())
    if options.json:
        print_json(response)
        return 0
    rows = [_model_row(model) for model in response.models]
    header = ["MODEL", "SIZE", "PARAMETERS", "CONTEXT", "NEEDS", "LICENCE", "NODES", "STATE"]
    print_table(header, rows, ("PARAMETERS", "LICENCE", "CONTEXT", "SIZE"))
    for model in response.models:
        description = model.description
        said = description.note if model.usable else description.problem.message
        if said:
            print(clean(f"{description.name}: {said}"))
    print(f"\nPut GGUF files into {home.models} to add models.")
    return 0


async def _model(options: argparse.Namespace, home: Home) -> int:
    """Say all that is known of one model."""
    request = pb.DescribeModelRequest(model=options.model, node=options.node, hashes=options.sha256)
    async with running_pool(home, options.ssh) as client:
        seconds = HASH_SECONDS if options.sha256 else DESCRIBE_SECONDS
        response = await client.call(client.stub.DescribeModel, request, seconds)
    if options.json:
        print_json(response)
        return 0
    model = response.detail.description
    name = ":".join(filter(None, (model.name, model.quantization)))
    print(f"{clean(name)} on {clean(response.node_name)}")
    known = facts(response.detail)
    if options.explain:
        print("\n\n".join("\n".join(explained_lines(fact)) for fact in known))
    else:
        print("\n".join(fact_lines(known)))
    return 0


def explained_lines(fact: Fact) -> Iterator[str]:
    """Yield a fact, and under it what the primer says of such."""
    yield from fact_lines([fact])
    if text := explanation(fact.name):
        yield from textwrap.wrap(text, COLUMNS, initial_indent="    ", subsequent_indent="    ")


def fact_lines(known: Sequence[Fact]) -> Iterator[str]:
    """Yield a table of facts, wrapped to the width of a terminal, each with where it is from."""
    width = max(len(fact.name) for fact in known)
    for fact in known:
        text = f"{fact.value} ({fact.source})" if fact.source else fact.value
        indent = " " * (width + 4)
        yield from textwrap.wrap(
            text,
            COLUMNS,
            initial_indent=f"  {fact.name:<{width}}  ",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _node_row(node: pb.Node) -> list[str]:
    state = node.state
    devices = [device for device in state.devices if not device.unified]
    free = sum(device.memory_free_bytes for device in devices) / GIB
    total = sum(device.memory_total_bytes for device in devices) / GIB
    watts = [device.watts for device in state.devices if device.HasField("watts")]
    return [
        state.name or "?",
        pb.NodeHealth.Name(node.health).removeprefix("NODE_HEALTH_").lower(),
        f"{free:.1f} of {total:.1f} GiB" if total else "-",
        ", ".join(loaded.name for loaded in state.loaded) or "-",
        f"{state.tokens_per_second:.0f}",
        f"{sum(watts):.0f}" if watts else "-",
        ", ".join(node.found_by),
        node.address,
    ]


def _print_problems(node: pb.Node) -> None:
    """Say what a node lacks, with what to do about it."""
    if node.HasField("problem"):
        print(clean(f"{node.state.name or node.address}: {node.problem.message}"))
    for notice in node.state.notices:
        when = time.strftime("%H:%M", time.localtime(notice.unix_seconds))
        print(clean(f"{node.state.name}, {when}: {notice.text}"))
    if any(engine.available for engine in node.state.engines):
        return
    for engine in node.state.engines:
        if engine.advice:
            print(clean(f"{node.state.name}: no {engine.name}: {engine.advice}"))


def _model_row(model: pb.ModelSummary) -> list[str]:
    description = model.description
    state = "loaded" if model.loaded_on else "ready" if model.usable else "unusable"
    if description.embeds_only:
        state += ", only embeds"
    return [
        ":".join(filter(None, (description.name, description.quantization)))
        + (" *" if model.is_default else ""),
        size(description.file_bytes),
        _count(description.parameter_count),
        str(description.context_length or "-"),
        size(description.memory_needed_bytes),
        clean(description.license) or "?",
        ", ".join(model.node_names),
        state,
    ]


def _count(number: int) -> str:
    if not number:
        return "?"
    return f"{number / 1e9:.1f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"
