"""How a reader wants the terminal: table `[terminal]` of `settings.toml`.

A terminal never stays shut over a mistake in it: what cannot be is said, and the default taken.
This is read before the first picture, so it is checked by hand: pydantic alone takes longer to
import than all of the rest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from potluck_proto.errors import SettingsError
from potluck_proto.toml_file import read_toml


class Colours(StrEnum):
    """How many colours to use."""

    AUTO = "auto"
    SIXTEEN = "16"
    TWO_HUNDRED_FIFTY_SIX = "256"
    TRUECOLOR = "truecolor"


class Notice(StrEnum):
    """How the end of a long answer is told to whoever looks elsewhere."""

    AUTO = "auto"
    BELL = "bell"
    OSC9 = "osc9"
    OSC99 = "osc99"
    NONE = "none"


class Switch(StrEnum):
    """Whether to do something; by default as the terminal suggests."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a reader has chosen."""

    theme: str = ""
    """By its name; empty takes the one that suits the terminal's colours."""
    colours: Colours = Colours.AUTO
    ascii: Switch = Switch.AUTO
    """Whether to draw with ASCII alone."""
    ssh_profile: Switch = Switch.AUTO
    """Whether to draw as for an ssh connection: less often, and without the mouse."""
    read_only: bool = False
    """Tell machines nothing: no loading, draining or removing from this terminal."""
    notify: Notice = Notice.AUTO
    notify_after_seconds: float = 10.0
    """Answers that took longer are told."""
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Other keys, by the id of what they do: `"chat.new" = "ctrl+e"`."""


@dataclass(frozen=True, slots=True)
class Read:
    """Preferences as they were read, and what was wrong with them."""

    preferences: Preferences
    problems: tuple[str, ...] = ()
    """Sentences."""

    def with_choice(self, **choice: Any) -> Read:
        """Return it with what the command line chooses."""
        return replace(self, preferences=replace(self.preferences, **choice))


def read(file: Path) -> Read:
    """Read the preferences of a settings file; without one, there are none."""
    try:
        content = read_toml(file)
    except SettingsError as error:
        return Read(Preferences(), (f"{error.message} The terminal takes its defaults.",))
    table = content.get("terminal", {})
    if not isinstance(table, dict):
        return Read(Preferences(), (f"{file}: terminal must be a table, [terminal].",))
    known = {each.name: each for each in fields(Preferences)}
    values: dict[str, Any] = {}
    problems = []
    for name, value in table.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
            problems.append(f"{_place(file, name)}: there is no option terminal.{name}; {advice}")
            continue
        try:
            values[name] = _taken(name, value)
        except ValueError as error:
            place = _place(file, name)
            problems.append(f"{place}: terminal.{name} cannot be {value!r}; {error}.")
    return Read(Preferences(**values), tuple(problems))


def _place(file: Path, name: str) -> str:
    """Return the file with the line on which it sets an option, where that is seen easily."""
    before, table, after = file.read_text().partition("[terminal]\n")
    found = re.search(rf"^\s*{re.escape(name)}\s*=", after, re.MULTILINE)
    if not table or found is None:
        return str(file)
    line = (before + table + after[: found.start()]).count("\n") + found[0].count("\n") + 1
    return f"{file}, line {line}"


def _taken(name: str, value: object) -> object:
    """Return a value as the option holds it. Raises `ValueError` in words."""
    default = getattr(Preferences(), name)
    match default, value:
        case StrEnum(), bool() if type(default) is Switch:
            return Switch.ON if value else Switch.OFF
        case StrEnum(), str() | int():
            kind = type(default)
            if str(value) in list(kind):
                return kind(str(value))
            raise ValueError(f"it is one of {', '.join(kind)}")
        case bool(), bool():
            return value
        case float(), int() | float() if not isinstance(value, bool) and value >= 0:
            return float(value)
        case Mapping(), dict() if all(isinstance(keys, str) for keys in value.values()):
            return MappingProxyType(dict(value))
        case str(), str() if type(default) is str:
            return value
    raise ValueError(f"it must be {_KINDS[type(default)]}")


_KINDS: dict[type, str] = {
    bool: "true or false",
    float: "a number of seconds, 0 or more",
    str: "a text",
    MappingProxyType: 'a table of ids and keys, as "chat.new" = "ctrl+e"',
    Switch: "true, false or auto",
    Colours: "a text",
    Notice: "a text",
}
