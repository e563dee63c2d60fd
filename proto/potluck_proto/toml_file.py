"""Reading a file that a person wrote, and saying where it is broken."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from potluck_proto.errors import SettingsError
from potluck_proto.plain import plain


def read_toml(file: Path) -> dict[str, Any]:
    """Return what is in a file; without one, nothing. Raises `SettingsError` with the line."""
    text = ""
    try:
        text = file.read_text()
        return tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        quoted = _quoted(text, str(error))
        raise SettingsError(f"{file} cannot be read: {plain(error)}{quoted}.") from error


def _quoted(text: str, problem: str) -> str:
    """Return the line of a text that a problem names, to be put behind it."""
    place = re.search(r"at line (\d+)", problem)
    lines = text.splitlines()
    number = int(place[1]) if place else 0
    return f", in `{lines[number - 1].strip()}`" if 0 < number <= len(lines) else ""
