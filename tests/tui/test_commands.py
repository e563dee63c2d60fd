from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from importlib import import_module

import pytest

from potluck_tui.cli import build_parser
from potluck_tui.commands import COMMANDS


def parsed(parser: ArgumentParser) -> Iterator[str]:
    """Yield what can be typed; a command with others below it may stand alone or not."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for name, below in action.choices.items():
                yield name
                yield from (f"{name} {more}" for more in parsed(below))


@pytest.mark.parametrize("place", COMMANDS.values())
def test_the_function_of_each_command_is_there(place: str) -> None:
    module, function = place.split(".")
    assert callable(getattr(import_module(f"potluck_tui.commands.{module}"), function))


def test_what_can_be_typed_has_a_function() -> None:
    typed = set(parsed(build_parser()))
    assert typed - set(COMMANDS) == {"service"}, "it asks for more"
    assert set(COMMANDS) <= typed
