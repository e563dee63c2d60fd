"""What can be fetched: what would run well on this pool, and what the hub has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from potluck_tui.instructions import (
    HubRequest,
    Instruction,
    ListRepository,
    Recommend,
    Say,
    SearchHub,
)
from potluck_tui.orders import Fetch

if TYPE_CHECKING:
    from potluck_tui.events import FetchFailed, HubAnswered


@dataclass(frozen=True, slots=True)
class Offer:
    """A row of a page: a model, or a repository that has several."""

    name: str
    """`MAKER/NAME`, of a model with its variant."""
    cells: tuple[str, ...]
    words: str = ""
    """What the row has no room for."""
    fetch: Fetch | None = None
    """What would fetch it; `None` for a repository."""
    present: bool = False
    """It is there already."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: a table with notes."""

    title: str
    header: tuple[str, ...]
    offers: tuple[Offer, ...]
    notes: str = ""
    spare: tuple[str, ...] = ()
    """Headings of what a narrow screen has no room for, the least needed first."""


_DEPTHS: dict[type[HubRequest], int] = {Recommend: 0, SearchHub: 1, ListRepository: 2}
"""An answer stands in the place of those of its depth and below."""


class Hub:
    """The pages that were asked for, one upon the other, and the fetches that failed.

    Attributes:
        asking: What is under way.
        problem: Why the last answer is none, in a sentence; empty where it is one.
        failures: Why fetches that were begun here ended without their model, by what was fetched.
    """

    def __init__(self) -> None:
        self.asking: HubRequest | None = None
        self.problem = ""
        self.failures: dict[str, str] = {}
        self._pages: dict[int, tuple[HubRequest, Page]] = {}

    @property
    def page(self) -> Page | None:
        """The page on top."""
        return self._pages[max(self._pages)][1] if self._pages else None

    def ask(self, request: HubRequest) -> list[HubRequest]:
        """Ask for another page; an answer to what was asked before is dropped."""
        if request == self.asking:
            return []
        self.asking, self.problem = request, ""
        return [request]

    def renew(self) -> list[HubRequest]:
        """Ask again for the page on top, which stays to be read meanwhile."""
        return self.ask(self._top) if self._top is not None and self.asking is None else []

    def back(self) -> bool:
        """Go back to the page below, or leave the question under way; `False` where none is."""
        if self.asking not in (None, self._top) and self._pages:
            self.asking = None
        elif len(self._pages) > 1:
            self.asking = None
            del self._pages[max(self._pages)]
        else:
            return False
        self.problem = ""
        return True

    def answered(self, event: HubAnswered) -> None:
        """Take in a page, or why there is none."""
        if event.request != self.asking:
            return
        self.asking, self.problem = None, event.problem
        if event.page is not None:
            depth = _DEPTHS[type(event.request)]
            self._pages = {d: page for d, page in self._pages.items() if d < depth}
            self._pages[depth] = (event.request, event.page)

    @property
    def _top(self) -> HubRequest | None:
        """What the page on top answers."""
        return self._pages[max(self._pages)][0] if self._pages else None

    def fetch_failed(self, event: FetchFailed) -> list[Instruction]:
        """Keep why a model did not come: the reader may look elsewhere just now."""
        self.failures[event.order.model] = event.sentence
        return [Say(event.sentence, problem=True)]

    def forget(self, model: str) -> None:
        """Forget that a fetch failed, if it did."""
        self.failures.pop(model, None)
