"""How the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from potluck_tui.columns import table_lines


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell."""
    print("\n".join(table_lines(header, rows)))


def print_json(response: Message) -> None:
    """Print a response as its contract has it."""
    print(json.dumps(MessageToDict(response, preserving_proto_field_name=True), indent=2))
