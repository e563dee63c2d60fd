from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from potluck_tui.cli import build_parser
from potluck_tui.keys import PLACES

ROOT = Path(__file__).resolve().parents[2]
CLI_PAGE = ROOT / "docs" / "cli.md"
KEYS_PAGE = ROOT / "docs" / "keys.md"


def render_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a line for each option of a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        name = ", ".join(action.option_strings) or (action.metavar or action.dest.upper())
        choices = f" ({' or '.join(action.choices)})" if action.choices else ""
        yield f"- `{name}`: {action.help}{choices}"


def render_cli_page() -> str:
    """Return docs/cli.md as the parser would have it, whatever the Python version."""
    parser = build_parser()
    lines = ["# The command line", "", "Made from the program itself.", "", "## potluck", ""]
    lines += [str(parser.description), "", *render_options(parser), "", *render_commands(parser)]
    return "\n".join([*lines, str(parser.epilog), ""])


def render_keys_page() -> str:
    """Return docs/keys.md as the table of keys would have it."""
    lines = ["# Keys", "", "Made from the program itself. An id is what `[terminal.keys]` of"]
    lines += ["`settings.toml` gives another key to; commas part several keys.", ""]
    known: set[str] = set()
    for place, tables in PLACES.items():
        lines += [f"## {place}", "", "| key | does | id |", "| --- | --- | --- |"]
        # What counts everywhere stands under the first place alone.
        new = [key for table in tables for key in table if key.id not in known]
        known |= {key.id for key in new}
        lines += [f"| {key.shown} | {key.words} | `{key.id}` |" for key in new] + [""]
    return "\n".join(lines)


def test_the_page_of_keys_is_what_the_program_does() -> None:
    renew = "renew it with: python tests/house/test_docs.py"
    assert KEYS_PAGE.read_text() == render_keys_page(), renew


def render_commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the lines of each command of a parser, and of its own commands after it."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, subparser in action.choices.items():
            words = f"{helps[name][:1].upper()}{helps[name][1:]}."
            yield from (f"## {subparser.prog}", "", words, "")
            if options := list(render_options(subparser)):
                yield from (*options, "")
            yield from render_commands(subparser)


def test_the_page_of_the_command_line_is_what_the_program_says() -> None:
    renew = "renew it with: python tests/house/test_docs.py"
    assert CLI_PAGE.read_text() == render_cli_page(), renew


if __name__ == "__main__":
    CLI_PAGE.write_text(render_cli_page())
    KEYS_PAGE.write_text(render_keys_page())
