"""Finding a model to fetch: what would run well on this pool, and what the hub has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Resize
from textual.widgets import Input

from potluck_tui.columns import table_lines
from potluck_tui.hub import Hub, Offer, Page
from potluck_tui.instructions import Instruction, ListRepository, Recommend, SearchHub
from potluck_tui.keys import EVERYWHERE, FIND, hints
from potluck_tui.orders import Fetch
from potluck_tui.pool import Health, PoolView
from potluck_tui.screens.ordering import ExplainingScreen
from potluck_tui.session import Session
from potluck_tui.status import title_line
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.widgets.line import Line
from potluck_tui.widgets.rows import Row, Rows

PLACEHOLDER = "Search: words, fits, below:8B, quant:Q4_K_M; MAKER/NAME[:VARIANT] to fetch"


class FindScreen(ExplainingScreen):
    """A line to type in, a table of what was found, and more on the row under the cursor.

    Args:
        session: What is known.
        do: Carries out instructions.
        read_only: Machines are told nothing.
        typing: Begin at the line.
    """

    PLACE = "find a model"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in FIND]

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[Instruction]], None],
        *,
        read_only: bool,
        typing: bool,
    ) -> None:
        super().__init__(session, do, read_only=read_only)
        self._typing = typing
        self._drawn: tuple[object, ...] = ()
        self._fitted = _what_fits_by(session.pool)
        self._line = Line(placeholder=PLACEHOLDER, widget_id="find-line")
        self._title = Bar(widget_id="title")
        self._rows = Rows(widget_id="found")

    def compose(self) -> ComposeResult:
        """Build the line, the table, and the place for more."""
        yield self._title
        yield self._line
        yield self._rows
        yield self.below
        yield KeyHints(hints(FIND, EVERYWHERE), widget_id="hints")

    def on_mount(self) -> None:
        """Begin at the line or at the table, with what was asked last, or what would run well."""
        self.set_focus(self._line if self._typing else self._rows)
        self._do(self._hub.renew() if self._hub.page else self._hub.ask(Recommend()))
        self._draw()

    def show_news(self, session: Session) -> None:
        """Show what was found; ask again where something else may fit by now."""
        fitted = _what_fits_by(session.pool)
        if fitted != self._fitted:
            self._fitted = fitted
            self._do(self._hub.renew())
        self._draw()

    @on(Resize)
    def _draw(self) -> None:
        """Draw what the hub said, if that is another thing than was drawn."""
        hub = self._hub
        page = hub.page or Page("", (), ())
        state = (page, hub.asking, hub.problem, self.size.width, self._session.connected)
        if state == self._drawn:
            return
        self._drawn = state
        now = "asking…" if hub.asking is not None else ""
        self._title.show(title_line(self._session, f"Find a model: {page.title}", now))
        cells = [offer.cells for offer in page.offers]
        heading, *lines = table_lines(page.header, cells, self.size.width - 1, page.spare)
        rows = [
            Row(offer.name, Text.assemble((line, "green" if offer.present else "")))
            for offer, line in zip(page.offers, lines, strict=True)
        ]
        self._rows.show(Text(heading), rows)
        self.show_words()

    @on(Rows.Moved)
    def show_words(self) -> None:
        """Show more of the row under the cursor, and what is wrong."""
        page, offer = self._hub.page, self._chosen
        text = Text(self._hub.problem, "yellow")
        for words in (offer.words if offer else "", page.notes if page else ""):
            if words:
                text.append("\n\n" if text else "").append(words, "default")
        self.below.show(text, subject=f"{self._hub.problem}{self._rows.cursor_key}")

    @on(Input.Submitted)
    async def submit(self) -> None:
        """Search for words, list a repository, or fetch one of its models."""
        typed = self._line.value.strip()
        repository, _, variant = typed.partition(":")
        if not typed:
            self._do(self._hub.ask(Recommend()))
        elif "/" not in typed:
            self._do(self._hub.ask(SearchHub(typed)))
        elif variant:
            await self._fetch(Fetch(repository, variant, ""))
            return
        else:
            self._do(self._hub.ask(ListRepository(repository)))
        self.set_focus(self._rows)

    async def action_take(self) -> None:
        """List what the repository under the cursor has, or fetch the model."""
        offer = self._chosen
        if offer is None:
            return
        if offer.fetch is None:
            self._do(self._hub.ask(ListRepository(offer.name)))
        elif offer.present:
            self.notify(f"{offer.name} is on {offer.fetch.node} already.", markup=False)
        else:
            await self._fetch(offer.fetch)

    async def _fetch(self, order: Fetch) -> None:
        """Fetch a model, if the reader says yes; the models show how far it is."""
        await self.confirm(order, then=self.dismiss)

    def action_type(self) -> None:
        """Go to the line, or from it to what was found."""
        self.set_focus(self._rows if self._line.has_focus else self._line)

    def action_recommended(self) -> None:
        """Show what would run well on this pool."""
        self._do(self._hub.ask(Recommend()))

    def action_close(self) -> None:
        """Go back to what was found before, or to the models."""
        if self._hub.back():
            self.set_focus(self._rows)
            self._draw()
        else:
            self.dismiss()

    @property
    def _hub(self) -> Hub:
        return self._session.hub

    @property
    def _chosen(self) -> Offer | None:
        offers = self._hub.page.offers if self._hub.page else ()
        return next((offer for offer in offers if offer.name == self._rows.cursor_key), None)


def _what_fits_by(pool: PoolView) -> object:
    """Return what of a pool decides which models fit and which are there already."""
    nodes = tuple((node.address, node.health is Health.READY) for node in pool.nodes)
    return nodes, tuple((model.label, model.node_names) for model in pool.models)
