"""`potluck explain`: where an answer would go now, and what is thought of every machine."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator

from google.protobuf.json_format import MessageToDict

from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.commands.printing import check_count
from potluck_tui.connect import running_pool
from potluck_tui.words import size

HEADER = ("NODE", "VERDICT", "NEEDS", "FREE", "TOKENS/S", "WHY")
NAME_LENGTH = 16
NARROWEST_REASON = 24

VERDICTS = {
    types.VERDICT_CHOSEN: "chosen",
    types.VERDICT_POSSIBLE: "possible",
    types.VERDICT_REJECTED: "no",
}


async def explain(options: argparse.Namespace, home: Home) -> int:
    """Show the decision for now; 0 where there is a place or a queue, 1 for a refusal."""
    if options.context is not None:
        check_count("--context", options.context)
    request = pb.ExplainRequest(
        model=options.model, context_length=options.context or 0, tags=options.tag
    )
    async with running_pool(home, options.ssh) as client:
        response = await client.call(client.stub.Explain, request)
    explanation = response.explanation
    if options.json:
        print(json.dumps(MessageToDict(response, preserving_proto_field_name=True), indent=2))
    else:
        width = shutil.get_terminal_size((80, 24)).columns
        print(clean("\n".join(lines_of(explanation, width))))
    return int(explanation.step == types.PLACEMENT_STEP_REFUSED)


def lines_of(explanation: types.Explanation, width: int) -> Iterator[str]:
    """Yield a decision as lines of text, no longer than `width` where that can be."""
    yield from textwrap.wrap(_verdict(explanation), width)
    if not explanation.candidates:
        return
    rows = [_row(candidate) for candidate in explanation.candidates]
    widths = [max(len(row[at]) for row in (HEADER, *rows)) for at in range(len(HEADER) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = max(NARROWEST_REASON, width - indent)
    yield ""
    for row in (HEADER, *rows):
        start = "".join(cell.ljust(size) + "  " for cell, size in zip(row, widths, strict=False))
        first, *rest = textwrap.wrap(row[-1], room) or [""]
        yield (start + first).rstrip()
        yield from (" " * indent + line for line in rest)
    if explanation.others:
        yield f"and {explanation.others} more nodes"


def _verdict(explanation: types.Explanation) -> str:
    """Return the decision in a sentence."""
    parts = (explanation.model, explanation.quantization)
    model, summary = clean(":".join(filter(None, parts))), clean(explanation.summary)
    if explanation.step == types.PLACEMENT_STEP_REFUSED:
        return summary
    if explanation.step == types.PLACEMENT_STEP_QUEUED:
        return f"An answer of {model} would wait: it {summary}."
    return f"An answer of {model} would go to {clean(explanation.node_name)}: {summary}."


def _row(candidate: types.Candidate) -> tuple[str, ...]:
    speed = candidate.tokens_per_second
    return (
        clean(candidate.node_name)[:NAME_LENGTH],
        VERDICTS.get(candidate.verdict, "?"),
        size(candidate.needed_bytes) if candidate.needed_bytes else "-",
        size(candidate.free_bytes),
        f"{speed:.0f}" if speed else "-",
        clean(candidate.reason),
    )
