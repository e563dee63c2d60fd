"""The workers that a person added by address; they stay added when the scheduler ends."""

from __future__ import annotations

from pathlib import Path

from potluck_proto.kept import KeptFile


class AddedWorkers:
    """A list of addresses in a file of the home.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = KeptFile(path, list[str], "workers added")
        self._addresses = self._file.read() or []

    def all(self) -> list[str]:
        """Return the addresses."""
        return list(self._addresses)

    def add(self, address: str) -> None:
        """Add an address, if it is not there yet."""
        if address not in self._addresses:
            self._addresses.append(address)
            self._file.write(self._addresses)

    def remove(self, address: str) -> None:
        """Remove an address, if it is there."""
        if address in self._addresses:
            self._addresses.remove(address)
            self._file.write(self._addresses)
