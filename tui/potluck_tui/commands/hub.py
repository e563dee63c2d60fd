"""`potluck search`, `pull` and `login`: models from the hub; `potluck copy`: from a neighbour."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
import textwrap
from collections.abc import Iterator

from google.protobuf.json_format import MessageToDict

from potluck_proto import hub_token
from potluck_proto.errors import BadRequest
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.columns import table_lines
from potluck_tui.commands.printing import check_count, line_cells, print_json, print_table
from potluck_tui.connect import running_pool
from potluck_tui.downloads import DownloadView, progress_line
from potluck_tui.knowledge.quality import quality, source
from potluck_tui.model_facts import COMMERCIAL_USE
from potluck_tui.words import COLUMNS, count, size

HUB_SECONDS = 20.0
REPOSITORY_HEADER = (
    "REPOSITORY", "PARAMETERS", "FITS MY POOL", "LICENCE", "COMMERCIAL", "FETCHED"
)  # fmt: skip
REPOSITORY_SPARE = ("FETCHED", "PARAMETERS", "COMMERCIAL", "LICENCE")
REPOSITORY_NOTE = (
    "Fits: about, at 4.9 bits a weight (Q4_K_M) and with a margin. Words that narrow a search: "
    "fits, below:8B, quant:Q4_K_M, licence:commercial."
)
VARIANT_HEADER = ("VARIANT", "SIZE", "BITS", "QUALITY", "FITS MY POOL")
VARIANT_SPARE = ("BITS", "QUALITY")


async def search(options: argparse.Namespace, home: Home) -> int:
    """Search the hub, or list what a repository has; 1 where nothing is found."""
    check_count("--limit", options.limit)
    words = " ".join(options.words)
    if "/" in words:
        return await _list(words, options, home)
    request = pb.SearchModelsRequest(query=words, limit=options.limit)
    async with running_pool(home, options.ssh) as client:
        response = await client.call(client.stub.SearchModels, request, HUB_SECONDS)
    if options.json:
        print_json(response)
    elif response.repositories:
        rows = [repository_row(found) for found in response.repositories]
        print_table(REPOSITORY_HEADER, rows, REPOSITORY_SPARE)
        print("\n" + textwrap.fill(REPOSITORY_NOTE, COLUMNS))
        print("`potluck search REPOSITORY` lists what it has, and what of it would fit.")
    else:
        print(none_found(words))
    return 0 if response.repositories else 1


def none_found(words: str) -> str:
    """Return what to say where a search found nothing."""
    wishes = any(":" in word or word.lower() == "fits" for word in words.split())
    among = ", of the 100 most fetched that have its words. Add a word" if wishes else ""
    return f"The hub has no GGUF model for “{clean(words)}”{among}."


async def _list(repository: str, options: argparse.Namespace, home: Home) -> int:
    """List what can be fetched of a repository, with fit and quality."""
    request = pb.ListRepositoryRequest(repository=repository, node=options.node)
    async with running_pool(home, options.ssh) as client:
        response = await client.call(client.stub.ListRepository, request, HUB_SECONDS)
    if options.json:
        print_json(response)
        return 0
    print("\n".join(repository_lines(response, line_cells())))
    return 0


def repository_lines(response: pb.ListRepositoryResponse, cells: int = 0) -> Iterator[str]:
    """Yield what is said of a repository and of what it has, in a table of at most `cells`."""
    found = response.repository
    yield f"{clean(found.name)}{_gate(found)}"
    yield from (f"  {line}" for line in origin_lines(found))
    yield ""
    node = response.node_name
    rows = [variant_row(variant, node) for variant in response.variants]
    yield from table_lines(VARIANT_HEADER, rows, cells, VARIANT_SPARE)
    yield ""
    yield from variant_notes()
    yield f"`potluck pull {clean(found.name)}:VARIANT` fetches one."


def repository_row(found: types.HubRepository) -> list[str]:
    """Return the row of a repository, below `REPOSITORY_HEADER`."""
    return [
        found.name + _gate(found),
        count(found.parameter_count) if found.parameter_count else "?",
        _fit(found),
        found.licence.id or "?",
        COMMERCIAL_USE[found.licence.commercial_use],
        count(found.downloads),
    ]


def origin_lines(found: types.HubRepository) -> Iterator[str]:
    """Yield what a repository was made from, and what its licence permits."""
    if found.base_models:
        yield f"made from {clean(', '.join(found.base_models))}"
    licence = found.licence
    use = COMMERCIAL_USE[licence.commercial_use]
    yield f"licence {clean(licence.id) or 'not named'}; commercial use: {use}"


def quantization_lines(found: types.HubRepository) -> Iterator[str]:
    """Yield in what a repository comes, where the hub said it."""
    if found.quantizations:
        yield f"comes in {clean(', '.join(found.quantizations))}"


def variant_notes() -> Iterator[str]:
    """Yield where the figures of variants are from."""
    yield f"Quality: {source()}."
    yield "Fits: about, by its size and a margin; `potluck fit` knows once it is there."


def _gate(found: types.HubRepository) -> str:
    return " (ask for access first)" if found.gated else ""


def _fit(found: types.HubRepository | types.HubVariant) -> str:
    """Return where a model fits, or by how much it does nowhere."""
    fit = found.fit
    if not found.HasField("fit"):
        return "?"
    if fit.missing_bytes:
        return f"no: {size(fit.missing_bytes)} too large"
    return f"on {fit.node_name}{', partly on cards' if fit.partly_offloaded else ''}"


def variant_row(variant: types.HubVariant, node: str) -> list[str]:
    """Return the row of a variant, below `VARIANT_HEADER`; `node` is the one that was asked."""
    known = quality(variant.name)
    return [
        variant.name,
        size(variant.size_bytes),
        f"{variant.bits_per_weight:.1f}" if variant.bits_per_weight else "?",
        known.words + (f" ({known.cost})" if known.cost else ""),
        f"there: {node}" if variant.present else _fit(variant),
    ]


async def pull(options: argparse.Namespace, home: Home) -> int:
    """Have a node fetch a model; ^C ends that, and what came is kept."""
    repository, _, variant = options.repository.partition(":")
    request = pb.PullModelRequest(repository=repository, variant=variant, node=options.node)
    async with running_pool(home, options.ssh) as client:
        try:
            return await _follow(client, request, options)
        except asyncio.CancelledError:
            await _stop(client, repository, variant, request.node)
            raise


async def _stop(client: PoolClient, repository: str, variant: str, node: str) -> None:
    stop = pb.StopPullModelRequest(repository=repository, variant=variant, node=node)
    await client.call(client.stub.StopPullModel, stop)
    print("\nStopped. What came is kept: ask again to go on.", file=sys.stderr)


async def _follow(
    client: PoolClient, request: pb.PullModelRequest, options: argparse.Namespace
) -> int:
    async for response in client.pull(request):
        # Where no node was named, this one does it; a stop must reach the same.
        request.node = response.node_name
        _show(response, response.node_name, as_json=options.json)
    return 0


async def copy(options: argparse.Namespace, home: Home) -> int:
    """Copy a model from one node to another; ^C ends that, and what came is kept."""
    request = pb.CopyModelRequest(
        model=options.model, to_node=options.to, from_node=options.from_node
    )
    async with running_pool(home, options.ssh) as client:
        called = options.model
        try:
            async for response in client.copy(request):
                called = response.download.repository or called
                _show(response, response.to_node, as_json=options.json)
        except asyncio.CancelledError:
            await _stop(client, called, "", options.to)
            raise
    return 0


def _show(
    response: pb.PullModelResponse | pb.CopyModelResponse, node: str, *, as_json: bool
) -> None:
    """Print how far a model is, on one line that is drawn again and again, or that it is there."""
    shows = sys.stderr.isatty()
    if as_json:
        print(json.dumps(MessageToDict(response, preserving_proto_field_name=True)), flush=True)
    elif response.HasField("model"):
        clear = "\r\x1b[K" if shows else ""
        model = response.model
        name = clean(":".join(filter(None, (model.name, model.quantization))))
        print(f"{clear}{name} is on {clean(node)}{_origin(response)}.")
        if model.HasField("problem"):
            print(f"It cannot be used there: {clean(model.problem.message)}")
    elif shows:
        line = progress_line(DownloadView.from_proto(response.download), clean(node))
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _origin(response: pb.PullModelResponse | pb.CopyModelResponse) -> str:
    """Return where a model came from, where that is not the hub."""
    if not response.from_node:
        return ""
    if isinstance(response, pb.PullModelResponse) and response.from_node == response.node_name:
        if response.by_name:
            return " already, by its name alone: the hub cannot be reached"
        return " already: its files are those of the hub, by their hashes"
    came = f", copied from {clean(response.from_node)}"
    if isinstance(response, pb.PullModelResponse):
        came += " instead of fetched"
        if response.by_name:
            came += "; the hub cannot be reached, so it is the same by its name alone"
    return came


async def login(options: argparse.Namespace, home: Home) -> int:
    """Keep a token for the hub where nobody else can read it; an empty one deletes it."""
    if sys.stdin.isatty():
        token = getpass.getpass("Token of the hub (empty forgets it): ").strip()
    else:
        token = sys.stdin.readline().strip()
    home.prepare()
    if not token:
        hub_token.forget(home)
        print("No token is kept.")
        return 0
    if not token.isascii() or not token.isprintable() or " " in token:
        raise BadRequest("That is no token: it has characters that no token has.")
    print(f"Kept in {hub_token.keep(home, token)}, for this machine's worker.")
    return 0
