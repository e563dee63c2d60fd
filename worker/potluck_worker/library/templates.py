"""Prompt formats that a person chose for models of this node, in the place of their templates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from potluck_proto.errors import BadRequest
from potluck_proto.kept import KeptFile
from potluck_worker.engines.formats import FORMATS


class Templates:
    """What was chosen, kept over restarts.

    Args:
        file: Where it is kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = KeptFile(file, dict[str, str], "prompt formats")
        kept = self._file.read() or {}
        self._chosen = {path: name for path, name in kept.items() if name in FORMATS}

    def of(self, model: Path) -> str:
        """Return the prompt format of a model; empty where none was chosen."""
        return self._chosen.get(str(model), "")

    def choose(self, models: Iterable[Path], name: str) -> None:
        """Give models a prompt format; an empty one leaves them as files and settings have them.

        Raises `BadRequest` where there is none of that name.
        """
        if name and name not in FORMATS:
            raise BadRequest(
                f"There is no prompt format {name!r}. There are {', '.join(FORMATS)}; `own` is the "
                "template of the file or of the settings."
            )
        for path in map(str, models):
            self._chosen.pop(path, None)
            if name:
                self._chosen[path] = name
        self._file.write(self._chosen)
