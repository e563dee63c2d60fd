"""`potluck primer`: what one must know of models to choose one."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator

from potluck_proto.home import Home
from potluck_tui.knowledge.primer import Topic, topic, topics
from potluck_tui.words import COLUMNS


async def primer(options: argparse.Namespace, home: Home) -> int:
    """Print a topic, or all of them."""
    chosen = [topic(" ".join(options.topic))] if options.topic else list(topics())
    if options.json:
        print(json.dumps([{"id": t.id, "title": t.title, "text": t.text} for t in chosen]))
        return 0
    print("\n\n".join("\n".join(_lines(found)) for found in chosen))
    if not options.topic:
        names = textwrap.fill(", ".join(found.id for found in topics()), COLUMNS)
        print(f"\nOne alone: `potluck primer TOPIC`, of\n{names}")
    return 0


def _lines(found: Topic) -> Iterator[str]:
    yield found.title.upper()
    for line in found.text.splitlines():
        yield from textwrap.wrap(line, COLUMNS) or [""]
