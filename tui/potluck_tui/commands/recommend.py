"""`potluck recommend`: which well-known models this pool would run, where, how and how fast."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator

from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.benchmarks import BenchmarkView
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.columns import table_lines
from potluck_tui.commands.printing import check_count, line_cells, print_json
from potluck_tui.connect import running_pool
from potluck_tui.knowledge.quality import quality, source
from potluck_tui.words import COLUMNS, context, count, counted, size

REFRESH_SECONDS = 300.0
"""The hub is asked about each row."""

HEADER = ("MODEL", "PARAMS", "QUANT", "SIZE", "CONTEXT", "TOK/S", "QUALITY", "LICENCE", "ON")
SPARE = ("PARAMS", "CONTEXT", "LICENCE", "QUALITY", "QUANT", "ON")
"""What a narrow screen has no room for, the least needed first."""


async def recommend(options: argparse.Namespace, home: Home) -> int:
    """Print what would run; 1 where nothing does."""
    check_count("--limit", options.limit)
    if options.context is not None:
        check_count("--context", options.context)
    request = pb.RecommendRequest(
        context_length=options.context or 0, use=options.use or "", node=options.node
    )
    async with running_pool(home, options.ssh) as client:
        if options.refresh:
            await _refresh(client)
        response = await client.call(client.stub.Recommend, request)
    if options.json:
        print_json(response)
    else:
        print("\n".join(recommendation_lines(response, options.limit, line_cells())))
    return 0 if response.recommendations else 1


async def _refresh(client: PoolClient) -> None:
    """Have the catalogue renewed; say what of it was not."""
    request = pb.RefreshCatalogueRequest()
    response = await client.call(client.stub.RefreshCatalogue, request, REFRESH_SECONDS)
    print("\n".join(refresh_lines(response)), file=sys.stderr)


def refresh_lines(response: pb.RefreshCatalogueResponse) -> Iterator[str]:
    """Yield how many rows are new, and why others are as they were."""
    yield f"Renewed from the hub: {counted(response.renewed, 'row')}."
    by_reason: dict[str, list[str]] = {}
    for repository, problem in sorted(response.problems.items()):
        by_reason.setdefault(problem.message.replace(repository, "it"), []).append(repository)
    for reason, repositories in by_reason.items():
        others = f" and {len(repositories) - 1} more" if len(repositories) > 1 else ""
        yield clean(f"As they were: {repositories[0]}{others}. {reason[:1].upper()}{reason[1:]}")


def recommendation_lines(
    response: pb.RecommendResponse, limit: int, cells: int = 0
) -> Iterator[str]:
    """Yield a table of the first recommendations, and where its figures are from.

    Args:
        response: What the scheduler recommends.
        limit: How many to show.
        cells: How wide the table may be; see `table_lines`.
    """
    if not response.recommendations:
        yield "No model of the catalogue fits any machine of this pool."
        return
    shown = response.recommendations[:limit]
    yield from table_lines(HEADER, [recommendation_row(found) for found in shown], cells, SPARE)
    yield ""
    for found in shown:
        if found.HasField("benchmark"):
            yield f"{found.name} as {measured_words(found)}"
    yield from textwrap.wrap(recommendation_notes(response), COLUMNS)
    best = response.recommendations[0]
    yield f"`potluck pull {best.repository}:{best.quantization}` fetches the first."


def measured_words(found: pb.Recommendation) -> str:
    """Return what a benchmark of a recommended model found, in a sentence."""
    figures = BenchmarkView.from_proto(found.benchmark)
    return f"measured on {figures.node_name}: {figures.words}."


def recommendation_notes(response: pb.RecommendResponse) -> str:
    """Return what the signs of a row mean, and where its figures are from."""
    return (
        "Tok/s: tokens per second; = measured here, ~ from the bandwidth of such memory, - with "
        "layers in main memory. Quality: against 16 bits, by the "
        f"{source()}. * is there already. Sizes: the hub's, else reckoned. "
        f"Catalogue: {response.catalogue_date}."
    )


def recommendation_row(found: pb.Recommendation) -> list[str]:
    """Return the row of a recommendation, below `HEADER`."""
    mark = "=" if found.measured else "-" if found.partly_offloaded else "~"
    return [
        found.name + (" *" if found.present else ""),
        count(found.parameter_count),
        found.quantization,
        size(found.file_bytes),
        context(found.context_length),
        f"{mark}{found.tokens_per_second:.0f}",
        quality(found.quantization).words,
        found.licence,
        found.node_name,
    ]
