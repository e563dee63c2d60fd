"""The models of the pool: what is where, and what fits where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.events import Resize, ScreenResume
from textual.timer import Timer
from textual.widgets import Input, Static

from potluck_tui.fleet import Loading
from potluck_tui.fleet_table import loading_words
from potluck_tui.instructions import Instruction
from potluck_tui.keys import EVERYWHERE, POOL_MODELS, hints
from potluck_tui.orders import Load, Order, Unload
from potluck_tui.pool import ModelView
from potluck_tui.screens.ordering import OrderingScreen
from potluck_tui.session import Session
from potluck_tui.status import StatusLine
from potluck_tui.tables import matching, model_heading, model_line
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.widgets.filter_line import FilterLine
from potluck_tui.widgets.rows import Row, Rows
from potluck_tui.words import counted, size

REST_SECONDS = 0.3
"""A model under a cursor that rests this long is asked about."""


class PoolModelsScreen(OrderingScreen):
    """A row for each model; below, what the one under the cursor takes on each machine.

    Args:
        session: What is known.
        do: Carries out instructions.
        open_nodes: Opens the machines.
        read_only: Machines are told nothing.
    """

    PLACE = "models"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in POOL_MODELS]

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[Instruction]], None],
        open_nodes: Callable[[], Awaitable[None]],
        *,
        read_only: bool,
    ) -> None:
        super().__init__(session, do, read_only=read_only)
        self._open_nodes = open_nodes
        self._rest: Timer | None = None
        self._shown: Text | None = None
        self._rows = Rows(widget_id="pool-models")
        self._filter = FilterLine("Filter by words")

    def compose(self) -> ComposeResult:
        """Build the table, and the place for what a model takes."""
        yield Bar(widget_id="title")
        yield self._rows
        with VerticalScroll(id="fit"):
            yield Static(id="fit-lines", markup=False)
        yield self._filter
        yield KeyHints(hints(POOL_MODELS, EVERYWHERE), widget_id="hints")

    def on_mount(self) -> None:
        """Begin at the table."""
        self.set_focus(self._rows)

    def show_news(self, session: Session) -> None:
        """Show the models as they are known now."""
        self._draw()

    @on(ScreenResume)
    @on(Resize)
    def _draw(self) -> None:
        if not self.is_current:
            return
        pool, width = self._session.pool, self.size.width
        models = matching(pool.models, self._filter.value)
        held = sum(1 for model in pool.models if model.loaded_on)
        title = f"Models: {counted(len(pool.models), 'model')}, {held} in memory"
        self.query_one("#title", Bar).show(
            StatusLine(title, "read-only" if self._read_only else "")
        )
        rows = [
            Row(model.label, model_line(model, pool, width, self._loading(model)))
            for model in models
        ]
        self._rows.show(model_heading(width), rows)
        self._show_fit()

    @on(Rows.Moved)
    def moved(self) -> None:
        """Show what is known of the model under the cursor, and ask for more once it rests."""
        self._show_fit()
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(REST_SECONDS, self._ask)

    async def action_load(self) -> None:
        """Load the model where it fits best, or on a machine that has it."""
        model = self._chosen
        if model is None:
            return
        if not model.usable:
            self._say(model.problem or "No machine can run it.")
            return
        where = [name for name in model.node_names if name not in model.loaded_on]
        orders: list[Order] = [Load(model.label, name, name) for name in where]
        if len(orders) > 1:
            orders = [Load(model.label), *orders]
        names = [order.name for order in orders]
        none = "It is in memory wherever it is."
        await self.choose(f"Load {model.label} on:", names, orders, none)

    async def action_unload(self) -> None:
        """Unload the model."""
        if (model := self._chosen) is not None:
            orders: list[Order] = [Unload(model.label, n, n) for n in model.loaded_on]
            none = "It is not in memory."
            await self.choose(f"Unload {model.label} from:", model.loaded_on, orders, none)

    def action_use(self) -> None:
        """Answer the chat with it."""
        model = self._chosen
        if model is not None and model.usable:
            self._do(self._session.choose(model=model.label))
            self._say(f"{model.label} answers this chat from now on.")
        elif model is not None:
            self._say(model.problem or "No machine can run it.")

    def action_filter(self) -> None:
        """Type a filter."""
        self._filter.open()

    @on(Input.Changed)
    def filter_changed(self) -> None:
        """Show what matches."""
        self._draw()

    @on(Input.Submitted)
    def filter_done(self) -> None:
        """Go back to the models; the filter stays."""
        self._filter.rest()
        self.set_focus(self._rows)

    async def action_nodes(self) -> None:
        """Show the machines of the pool."""
        await self._open_nodes()

    def action_close(self) -> None:
        """Leave the filter, or the screen."""
        if self._filter.leave():
            self.set_focus(self._rows)
        else:
            self.dismiss()

    def _say(self, words: str) -> None:
        self.notify(words, markup=False)

    @property
    def _chosen(self) -> ModelView | None:
        return self._session.pool.model(self._rows.cursor_key) if self._rows.cursor_key else None

    def _loading(self, model: ModelView) -> Loading | None:
        loads = (each for loads in self._session.fleet.loading.values() for each in loads)
        return next((each for each in loads if each.label == model.label), None)

    def _ask(self) -> None:
        if (model := self._chosen) is not None:
            self._do(self._session.fits.ask(model.label))

    def _show_fit(self) -> None:
        model = self._chosen
        text = self._fit_words(model) if model is not None else Text("No model matches.")
        if text != self._shown:
            self._shown = text
            self.query_one("#fit-lines", Static).update(text)

    def _fit_words(self, model: ModelView) -> Text:
        facts = [model.title, model.architecture, f"licence {model.licence or 'unknown'}"]
        facts += [f"{size(model.file_bytes)} on disk", "the pool's default" * model.is_default]
        text = Text(" · ".join(filter(None, facts)), "dim")
        if (loading := self._loading(model)) is not None:
            text.append(f"\n{loading_words(loading)}", "not dim yellow")
        if model.problem or model.note:
            style = "not dim red" if model.problem else "not dim yellow"
            text.append(f"\n{model.problem or model.note}", style)
        for benchmark in model.benchmarks:
            text.append(f"\nmeasured on {benchmark.node_name}: {benchmark.words}", "not dim")
        lines = self._session.fits.lines(model.label)
        if lines:
            text.append("\n\n" + "\n".join(lines), "not dim")
        elif self._session.fits.asking == model.label:
            text.append("\n\nAsking the machines what it takes…", "not dim")
        return text
