"""What models really took, kept for the next estimate.

For each file and way of holding it, the most that its process was seen to take of each device. Such
a peak can always raise an estimate. It lowers one only where the model was in full use: a whole
batch at the end of a full cache, after which nothing that the engine set aside is untouched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from potluck_proto.kept import KeptFile
from potluck_worker.engines.sizing import Estimate, Share

FULL_USE = 0.95
"""The fullness from which on a peak is what the model takes."""

LONGEST = 512
"""Measurements that are kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one way of holding a file took."""

    peak_bytes: Mapping[str, int]
    """By device."""
    fullness: float


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the file has."""

    engine: str
    measured: dict[str, Measurement]


class Measurements:
    """The measurements of one node, in one file.

    Args:
        path: The file; one that cannot be read counts as empty.
        engine_version: Another version starts anew.
    """

    def __init__(self, path: Path, engine_version: str) -> None:
        self._file = KeptFile(path, _Kept, "measurements")
        self._engine_version = engine_version
        kept = self._file.read()
        self._kept = kept.measured if kept and kept.engine == engine_version else {}
        self._saved = True

    def note(self, file: str, estimate: Estimate, measured: Measurement) -> None:
        """Keep what a model took.

        Args:
            file: What changes when the file does.
            estimate: How it was held.
            measured: What it took.
        """
        key = _key(file, estimate)
        known = self._kept.get(key, Measurement({}, 0.0))
        devices = known.peak_bytes.keys() | measured.peak_bytes.keys()
        merged = Measurement(
            {
                device_id: max(
                    known.peak_bytes.get(device_id, 0), measured.peak_bytes.get(device_id, 0)
                )
                for device_id in sorted(devices)
            },
            max(known.fullness, measured.fullness),
        )
        if merged == known:
            return
        self._kept.pop(key, None)
        self._kept[key] = merged
        self._saved = False
        while len(self._kept) > LONGEST:
            del self._kept[next(iter(self._kept))]

    def corrected(self, file: str, estimate: Estimate) -> Estimate:
        """Return an estimate, corrected by what the same took before."""
        measured = self._kept.get(_key(file, estimate))
        if measured is None:
            return estimate
        shares = tuple(
            _corrected(share, measured.peak_bytes.get(share.device_id, 0), measured.fullness)
            for share in estimate.shares
        )
        return replace(estimate, shares=shares)

    def save(self) -> None:
        """Write the file, if there is news. Raises `OSError`."""
        if self._saved:
            return
        self._saved = True
        self._file.write(_Kept(self._engine_version, self._kept))


def _key(file: str, estimate: Estimate) -> str:
    return json.dumps([file, *(asdict(estimate.options).items())])


def _corrected(share: Share, peak_bytes: int, fullness: float) -> Share:
    """Return a share that adds up to what was measured.

    The difference is looked for where the engine knows least: in what the process takes beside its
    buffers, then in buffers of which less is touched than was set aside.
    """
    difference = peak_bytes - share.total_bytes
    if peak_bytes == 0 or (difference < 0 and fullness < FULL_USE):
        return share
    parts: dict[str, Any] = {}
    for name in ("process_bytes", "compute_bytes", "kv_cache_bytes", "weights_bytes"):
        said_bytes: int = getattr(share, name)
        parts[name] = max(0, said_bytes + difference)
        difference -= parts[name] - said_bytes
    return replace(share, **parts)
