"""What the daemons' settings modules share: where values come from, and how mistakes are said.

Values come from the command line, then `POTLUCK_<DAEMON>_<OPTION>` in the environment, then the
daemon's table in `settings.toml`, then the default.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from potluck_proto.errors import SettingsError
from potluck_proto.home import Home
from potluck_proto.toml_file import read_toml

S = TypeVar("S", bound=BaseSettings)

TABLES = ("limits", "scheduler", "terminal", "worker")


def host_name() -> str:
    """Return this machine's name without its domain, for people to read."""
    name = socket.gethostname().split(".")[0]
    return "".join(filter(str.isprintable, name))[:40] or "node"


def worker_name(home: Home) -> str:
    """Return what people call the worker of this machine: as it is set, else as the host is called.

    Raises `SettingsError` for a file that cannot be read.
    """
    named = os.environ.get("POTLUCK_WORKER_NAME") or _read_table(home, "worker").get("name")
    return str(named or host_name())


def load(
    settings: type[S], home: Home, table: str, given: Mapping[str, object] = MappingProxyType({})
) -> S:
    """Return the settings of one table.

    Args:
        settings: The table's settings class.
        home: The home whose `settings.toml` is read.
        table: Its name.
        given: Values from the command line; `None` means not given.

    Raises:
        SettingsError: The file is not TOML, an option is unknown, or a value is impossible.
    """
    values = _read_table(home, table)
    for name in values:
        if name not in settings.model_fields:
            near = difflib.get_close_matches(name, settings.model_fields, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known: {_names(settings)}."
            raise SettingsError(f"{home.settings_file} has no option {table}.{name}; {advice}")
    environment_prefix = settings.model_config.get("env_prefix", "")
    from_environment = settings.__pydantic_fields__.keys() & _environment_names(environment_prefix)
    merged: dict[str, Any] = {k: v for k, v in values.items() if k not in from_environment}
    merged |= {name: value for name, value in given.items() if value is not None}
    try:
        return settings(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{home.settings_file} has no option {table}.{option}.") from error
        raise SettingsError(
            f"The setting {table}.{option} cannot be {first['input']!r}: {first['msg']}."
        ) from error


def _environment_names(prefix: str) -> set[str]:
    return {
        name.removeprefix(prefix.upper()).lower()
        for name in os.environ
        if name.startswith(prefix.upper())
    }


def _names(settings: type[BaseSettings]) -> str:
    return ", ".join(sorted(settings.model_fields))


def _read_table(home: Home, table: str) -> dict[str, Any]:
    content = read_toml(home.settings_file)
    unknown = content.keys() - set(TABLES)
    if unknown:
        name = sorted(unknown)[0]
        raise SettingsError(
            f"{home.settings_file} has no table [{name}]; known: "
            + ", ".join(f"[{known}]" for known in TABLES)
            + "."
        )
    found = content.get(table, {})
    return found if isinstance(found, dict) else {}
