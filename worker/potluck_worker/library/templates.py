"""Prompt formats that a person chose for models of this node, in the place of their templates."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from potluck_proto.errors import BadRequest
from potluck_proto.home import write_private
from potluck_worker.engines.formats import FORMATS

log = logging.getLogger(__name__)

_KEPT: TypeAdapter[dict[Path, str]] = TypeAdapter(dict[Path, str])


class Templates:
    """What was chosen, kept over restarts.

    Args:
        file: Where it is kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._chosen = self._read()

    def of(self, model: Path) -> str:
        """Return the prompt format of a model; empty where none was chosen."""
        return self._chosen.get(model, "")

    def choose(self, models: Iterable[Path], name: str) -> None:
        """Give models a prompt format; an empty one leaves them as files and settings have them.

        Raises `BadRequest` where there is none of that name.
        """
        if name and name not in FORMATS:
            raise BadRequest(
                f"There is no prompt format {name!r}. There are {', '.join(FORMATS)}; `own` is the "
                "template of the file or of the settings."
            )
        for model in models:
            self._chosen.pop(model, None)
            if name:
                self._chosen[model] = name
        said = {str(path): each for path, each in self._chosen.items()}
        write_private(self._file, json.dumps(said).encode())

    def _read(self) -> dict[Path, str]:
        try:
            kept = _KEPT.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            log.warning("starting without the prompt formats in %s: %s", self._file, error)
            return {}
        return {path: name for path, name in kept.items() if name in FORMATS}
