"""Who was turned away, and why: each in the log once, and kept for a while to be shown."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from potluck_proto.v1 import types_pb2 as pb

log = logging.getLogger(__name__)

KEPT = 32
KEPT_SECONDS = 3_600.0


@dataclass(slots=True)
class _Refusal:
    count: int
    last: float


class Refusals:
    """The refusals of one daemon; a flood of them stays `KEPT` entries long.

    Args:
        changed: Called when there is something new to show.
        now: A clock in seconds.
    """

    def __init__(
        self, changed: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._changed = changed
        self._now = now
        self._entries: OrderedDict[tuple[str, str], _Refusal] = OrderedDict()

    def note(self, address: str, reason: str) -> None:
        """Note that somebody was turned away.

        Args:
            address: From where, without the port.
            reason: One clause.
        """
        entry = self._entries.get((address, reason))
        if entry is None or self._now() - entry.last > KEPT_SECONDS:
            log.warning("turned away %s: %s", address, reason)
            entry = self._entries[address, reason] = _Refusal(0, 0.0)
            self._changed()
        entry.count += 1
        entry.last = self._now()
        self._entries.move_to_end((address, reason))
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)

    def recent(self) -> list[pb.Refusal]:
        """Return those of the last hour, the newest first."""
        now = self._now()
        return [
            pb.Refusal(
                address=address, reason=reason, count=entry.count, age_seconds=now - entry.last
            )
            for (address, reason), entry in reversed(self._entries.items())
            if now - entry.last <= KEPT_SECONDS
        ]
