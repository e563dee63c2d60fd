"""Models on their way to a machine."""

from __future__ import annotations

from dataclasses import dataclass

from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.words import age, label, size


@dataclass(frozen=True, slots=True)
class DownloadView:
    """How far a model is."""

    repository: str
    variant: str
    """The quantization or the file; empty before it is chosen."""
    done_bytes: int = 0
    total_bytes: int = 0
    """0 before it is known."""
    bytes_per_second: float = 0.0
    seconds_left: float | None = None
    source: str = ""
    """The node that it is copied from; empty for the hub."""
    hashing: bool = False
    """Nothing comes yet: the source reads its files for their hashes."""

    @property
    def name(self) -> str:
        """What a person types to mean it: `MAKER/NAME:VARIANT`."""
        return label(self.repository, self.variant)

    @classmethod
    def from_proto(cls, download: types.Download) -> DownloadView:
        """Take a download apart."""
        return cls(
            repository=clean(download.repository),
            variant=clean(download.variant),
            done_bytes=download.done_bytes,
            total_bytes=download.total_bytes,
            bytes_per_second=download.bytes_per_second,
            seconds_left=download.seconds_left if download.HasField("seconds_left") else None,
            source=clean(download.from_node),
            hashing=download.hashing,
        )


def progress_line(download: DownloadView, node: str, cells: int | None = None) -> str:
    """Return how far a model is on its way to a node, in a line.

    Args:
        download: The model.
        node: By its name.
        cells: The line is no longer: the model's name gives way. `None` is as long as it takes.
    """
    if download.total_bytes:
        share = download.done_bytes / download.total_bytes
        parts = [_way(download, node), f"{share:.0%} of {size(download.total_bytes)}"]
        if download.bytes_per_second:
            parts.append(f"{size(int(download.bytes_per_second))}/s")
        if download.seconds_left is not None:
            parts.append(f"{age(download.seconds_left)} left")
        rest = ", ".join(parts)
    else:
        rest = f" to {node}: asking the hub"
    name = download.name
    if cells is not None and len(name) + len(rest) > cells:
        name = f"{name[: max(0, cells - len(rest) - 1)]}…"
    return name + rest


def _way(download: DownloadView, node: str) -> str:
    """Return where a model comes from and goes to."""
    if download.hashing:
        return f" to {node}: {download.source} reads its own for the hash"
    return f" from {download.source} to {node}" if download.source else f" to {node}"
