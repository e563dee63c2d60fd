"""The workers that a person added by address; they stay added when the scheduler ends."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from potluck_proto.home import write_private

log = logging.getLogger(__name__)


class AddedWorkers:
    """A list of addresses in a file of the home.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._addresses = [str(address) for address in json.loads(path.read_text())]
        except FileNotFoundError:
            self._addresses = []
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s cannot be read, added workers are forgotten: %s", path, error)
            self._addresses = []

    def all(self) -> list[str]:
        """Return the addresses."""
        return list(self._addresses)

    def add(self, address: str) -> None:
        """Add an address, if it is not there yet."""
        if address not in self._addresses:
            self._addresses.append(address)
            self._save()

    def remove(self, address: str) -> None:
        """Remove an address, if it is there."""
        if address in self._addresses:
            self._addresses.remove(address)
            self._save()

    def _save(self) -> None:
        write_private(self._path, json.dumps(self._addresses).encode())
