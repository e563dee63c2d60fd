"""How the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from potluck_proto.errors import BadRequest
from potluck_tui.columns import table_lines

MOST = 2**31 - 1
"""The largest count that every message has room for."""


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()
) -> None:
    """Print columns as wide as their widest cell; see `table_lines` for what can be spared."""
    print("\n".join(table_lines(header, rows, line_cells(), spare)))


def line_cells() -> int:
    """Return how wide lines of a table may be: as the terminal; 0, as they come, is for a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def print_json(response: Message) -> None:
    """Print a response as its contract has it."""
    print(json.dumps(MessageToDict(response, preserving_proto_field_name=True), indent=2))


def check_count(option: str, count: int) -> None:
    """Raise `BadRequest` for how many of something where that is none, or more than can be sent."""
    if not 1 <= count <= MOST:
        limit = "it is 1 or more" if count < 1 else f"the most is {MOST:,}"
        raise BadRequest(f"{option} cannot be {count}; {limit}.")
