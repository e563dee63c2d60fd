"""Requests that wait: a lane for each thing that is wanted, fair between clients.

Each request gets a round when it comes: the one that is being served, or the one after its client's
last. Rounds are served in order, and within one who came first: so clients take turns, and what one
client asked is served in the order in which it was asked. An answer that was interrupted goes ahead
of all, since somebody is reading it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from potluck_proto.ids import GenerationId
from potluck_scheduler.core.model import ModelKey, Request

INTERRUPTED = -1
"""The round of answers that were interrupted."""

SMALLEST_CONTEXT_TOKENS = 4096
"""Contexts up to this are wanted alike; beyond it, up to each power of two."""


@dataclass(frozen=True, slots=True)
class Want:
    """What makes two requests wait for the same."""

    model: str
    nodes: tuple[str, ...]
    tags: tuple[str, ...]
    context_tokens: int
    key: ModelKey | None
    """The model that an interrupted answer comes from."""


def want_of(request: Request) -> Want:
    """Return what a request waits for."""
    context = SMALLEST_CONTEXT_TOKENS
    while context < request.context_tokens:
        context *= 2
    key = request.progress.key if request.progress else None
    return Want(request.model.lower(), request.nodes, request.tags, context, key)


Turn = tuple[int, int, GenerationId]
"""Round, number of arrival, request: turns are served in order."""


class Lane:
    """Requests that wait for the same.

    Args:
        want: What they wait for.
        key: The model that would serve them now.
    """

    def __init__(self, want: Want, key: ModelKey) -> None:
        self.want = want
        self.key = key
        self._turns: list[Turn] = []
        self._by_request: dict[GenerationId, Turn] = {}
        self._round = 0
        self._last_rounds: dict[str, int] = {}
        self._by_client: dict[str, set[GenerationId]] = {}

    def copy(self) -> Lane:
        """Return the lane as it is now."""
        other = Lane(self.want, self.key)
        other._turns, other._by_request = list(self._turns), dict(self._by_request)
        other._round, other._last_rounds = self._round, dict(self._last_rounds)
        other._by_client = {client: set(theirs) for client, theirs in self._by_client.items()}
        return other

    def add(self, request: Request, number: int) -> None:
        """Let a request wait; `number` counts up with each that comes."""
        if request.progress is not None:
            turn = (INTERRUPTED, number, request.generation_id)
        else:
            last = self._last_rounds.get(request.client, self._round - 1)
            this = self._last_rounds[request.client] = max(self._round, last + 1)
            turn = (this, number, request.generation_id)
        insort(self._turns, turn)
        self._by_request[request.generation_id] = turn
        self._by_client.setdefault(request.client, set()).add(request.generation_id)

    def remove(self, request: Request) -> None:
        """Take a request out, as it is served or withdrawn."""
        theirs = self._by_client[request.client]
        theirs.remove(request.generation_id)
        if not theirs:
            del self._by_client[request.client]
        turn = self._by_request.pop(request.generation_id)
        at = bisect_left(self._turns, turn)
        del self._turns[at]
        if at == 0 and turn[0] > self._round:
            self._round = turn[0]
        if len(self._last_rounds) > 2 * len(self._turns) + 16:
            # Who asks again after this round is served as one who never asked.
            rounds = self._last_rounds.items()
            self._last_rounds = {client: last for client, last in rounds if last >= self._round}

    def waits_for(self, client: str) -> bool:
        """Say whether something that a client asked waits here."""
        return client in self._by_client

    def position(self, generation_id: GenerationId) -> int:
        """Return how many requests are served before one."""
        return bisect_left(self._turns, self._by_request[generation_id])

    @property
    def head(self) -> Turn:
        """The turn that is next."""
        return self._turns[0]

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._turns)

    def __iter__(self) -> Iterator[GenerationId]:
        """Yield those who wait, the next one first."""
        return (generation_id for _, _, generation_id in self._turns)

    def __contains__(self, generation_id: object) -> bool:
        """Say whether a request waits here."""
        return generation_id in self._by_request
