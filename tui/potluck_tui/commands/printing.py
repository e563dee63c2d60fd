"""How the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from potluck_tui.clean import clean

GIB = 2**30


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell."""
    print("\n".join(table_lines(header, rows)))


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines of columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        cells = (clean(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def print_json(response: Message) -> None:
    """Print a response as its contract has it."""
    print(json.dumps(MessageToDict(response, preserving_proto_field_name=True), indent=2))


def binary_size(size_bytes: int) -> str:
    """Return a size in MiB or GiB for a person."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / 2**20:.0f} MiB"
