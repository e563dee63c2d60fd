"""The models of the pool: what is where, what is on its way, and what fits where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Resize, ScreenResume
from textual.timer import Timer
from textual.widgets import Input

from potluck_tui.downloads import DownloadView, progress_line
from potluck_tui.fleet import Loading
from potluck_tui.fleet_table import loading_words
from potluck_tui.instructions import Instruction, Recommend
from potluck_tui.keys import EVERYWHERE, MODEL_ORDERS, POOL_MODELS, hints
from potluck_tui.orders import StopFetch
from potluck_tui.pool import ModelView
from potluck_tui.screens.find import FindScreen
from potluck_tui.screens.live import Pace
from potluck_tui.screens.model import ModelScreen
from potluck_tui.screens.ordering import ModelOrdersScreen
from potluck_tui.session import Session
from potluck_tui.status import title_line
from potluck_tui.tables import matching, model_heading, model_line
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.widgets.filter_line import FilterLine
from potluck_tui.widgets.rows import Row, Rows
from potluck_tui.words import counted, size

REST_SECONDS = 0.3
"""A model under a cursor that rests this long is asked about."""

_FETCH = "fetch "
"""Begins the keys of rows of models on their way: no label of a model has a space."""


class PoolModelsScreen(ModelOrdersScreen):
    """A row for each model; below, what the one under the cursor takes on each machine.

    Args:
        session: What is known.
        do: Carries out instructions.
        open_nodes: Opens the machines.
        read_only: Machines are told nothing.
        ssh: The terminal is at the other end of an ssh connection.
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
        ssh: bool,
    ) -> None:
        super().__init__(session, do, read_only=read_only)
        self._open_nodes = open_nodes
        self._ssh = ssh
        self._pace = Pace(self, self._draw, ssh=ssh)
        self._rest: Timer | None = None
        self._held_on: tuple[str, ...] = ()
        self._title = Bar(widget_id="title")
        self._rows = Rows(widget_id="pool-models")
        self._filter = FilterLine("Filter by words")

    def compose(self) -> ComposeResult:
        """Build the table, and the place for what a model takes."""
        yield self._title
        yield self._rows
        yield self.below
        yield self._filter
        yield KeyHints(hints(POOL_MODELS, MODEL_ORDERS, EVERYWHERE), widget_id="hints")

    def on_mount(self) -> None:
        """Begin at the table."""
        self.set_focus(self._rows)

    def show_news(self, session: Session) -> None:
        """Show the models as they are known now."""
        self._pace.news()

    @on(ScreenResume)
    @on(Resize)
    def draw(self) -> None:
        """Draw all that is known now."""
        self._draw()

    def _draw(self) -> None:
        self._pace.drawn()
        if not self.is_current:
            return
        pool, width = self._session.pool, self.size.width
        models = matching(pool.models, self._filter.value)
        held = sum(1 for model in pool.models if model.loaded_on)
        title = f"Models: {counted(len(pool.models), 'model')}, {held} in memory"
        self._title.show(title_line(self._session, title, "read-only" * self._read_only))
        rows = [
            Row(model.label, model_line(model, pool, width, self._loading(model)))
            for model in models
        ]
        self._rows.show(model_heading(width), [*self._fetch_rows(), *rows])
        self._show_chosen()
        held_on = self.chosen.loaded_on if self.chosen else ()
        if held_on != self._held_on:  # there is more or less room than there was
            self._held_on = held_on
            self._ask_soon()

    def _fetch_rows(self) -> Iterator[Row]:
        """Yield a row for each model on its way, and for each that did not come."""
        for key, (node, download) in self._downloads.items():
            words = progress_line(download, node, cells=self.size.width)
            yield Row(key, Text.assemble((words, "yellow")))
        for name in self._failures:
            yield Row(f"{_FETCH}{name}", Text.assemble((f"{name} was not fetched", "red")))

    @property
    def _downloads(self) -> dict[str, tuple[str, DownloadView]]:
        """What is on its way to which machine, by the key of its row."""
        return {
            f"{_FETCH}{download.name} {node.name}": (node.name, download)
            for node in self._session.pool.nodes
            for download in node.downloads
        }

    @property
    def _failures(self) -> dict[str, str]:
        """Why models did not come, of those that are not on their way again."""
        under_way = {download.name for _, download in self._downloads.values()}
        failures = self._session.hub.failures
        return {name: failures[name] for name in failures if name not in under_way}

    @on(Rows.Moved)
    def moved(self) -> None:
        """Show what is known of the model under the cursor, and ask for more once it rests."""
        self._show_chosen()
        self._ask_soon()

    def _ask_soon(self) -> None:
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(REST_SECONDS, self._ask)

    async def action_details(self) -> None:
        """Show all about the model, explained."""
        if (model := self.chosen) is not None:
            await self.app.push_screen(
                ModelScreen(
                    self._session, self._do, model, read_only=self._read_only, ssh=self._ssh
                )
            )

    async def action_find(self) -> None:
        """Find a model and fetch it."""
        await self._find(typing=True)

    async def action_recommended(self) -> None:
        """Show what would run well on this pool."""
        self._do(self._session.hub.ask(Recommend()))
        await self._find(typing=False)

    async def _find(self, *, typing: bool) -> None:
        await self.app.push_screen(
            FindScreen(self._session, self._do, read_only=self._read_only, typing=typing)
        )

    async def action_stop_fetch(self) -> None:
        """Stop a fetch: that under the cursor, else one of all; or forget one that failed."""
        key, downloads = self._rows.cursor_key, self._downloads
        if (name := key.removeprefix(_FETCH)) in self._failures:
            self._session.hub.forget(name)
            self._draw()
            return
        chosen = [downloads[key]] if key in downloads else [*downloads.values()]
        await self.choose(
            "Stop the fetch of:",
            [progress_line(download, node) for node, download in chosen],
            [StopFetch(each.repository, each.variant, node) for node, each in chosen],
            "Nothing is being fetched.",
        )

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

    @property
    def chosen(self) -> ModelView | None:
        """The model under the cursor."""
        return self._session.pool.model(self._rows.cursor_key) if self._rows.cursor_key else None

    def _loading(self, model: ModelView) -> Loading | None:
        loads = (each for loads in self._session.fleet.loading.values() for each in loads)
        return next((each for each in loads if each.label == model.label), None)

    def _ask(self) -> None:
        if (model := self.chosen) is not None:
            self._do(self._session.fits.ask(model.label))

    def _show_chosen(self) -> None:
        model = self.chosen
        text = self._fit_words(model) if model is not None else self._fetch_words()
        self.below.show(text, subject=self._rows.cursor_key)

    def _fetch_words(self) -> Text:
        """Return what there is to know where the cursor is at no model."""
        key = self._rows.cursor_key
        if (download := self._downloads.get(key)) is not None:
            words = "It goes on when you leave. What came is kept, whatever happens. x stops it."
            return Text(f"{download[1].name} is on its way to {download[0]}.\n{words}")
        if (sentence := self._failures.get(key.removeprefix(_FETCH))) is not None:
            return Text(sentence, "red").append("\nx forgets this.", "default")
        if self._session.pool.models:
            return Text("No model matches.")
        return Text("No model is here yet. f finds one and fetches it; r says what would run well.")

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
        lines = self._session.fits.answer(model.label)
        if lines:
            text.append("\n\n" + "\n".join(lines), "not dim")
        elif self._session.fits.asking == model.label:
            text.append("\n\nAsking the machines what it takes…", "not dim")
        return text
