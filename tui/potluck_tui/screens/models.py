"""The model picker: every model of the pool, filtered as one types."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Input, Static

from potluck_tui.keys import MODELS, hints
from potluck_tui.pool import ModelView, PoolView
from potluck_tui.screens.live import Live
from potluck_tui.session import Session
from potluck_tui.tables import MODEL_COLUMNS, matching, model_details, model_row
from potluck_tui.widgets.bars import KeyHints
from potluck_tui.widgets.line import Line


class Picked(NamedTuple):
    """What was picked."""

    label: str
    """The model's."""
    beside: bool = False
    """It is asked as well, or no longer, and the chat's own model stays."""


class ModelPicker(ModalScreen[Picked | None], Live):
    """Closes with a model, or `None`.

    Args:
        pool: What there is now; `show_news` brings later ones.
        current: Label of the model in use.
        beside: Label of the model that is asked as well.
    """

    PLACE = "model picker"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in MODELS]

    def __init__(self, pool: PoolView, current: str, beside: str = "") -> None:
        super().__init__()
        self._pool = pool
        self._current = current
        self._beside = beside
        self._models: list[ModelView] = []

    def compose(self) -> ComposeResult:
        """Build the filter, the table and the details."""
        with Vertical(classes="dialog -wide-dialog"):
            yield Line(placeholder="Pick a model: type to filter")
            table: DataTable[object] = DataTable(cursor_type="row", cell_padding=0)
            table.can_focus = False
            yield table
            yield Static(id="model-details", markup=False)
            yield KeyHints(hints(MODELS), widget_id="hints")

    def on_mount(self) -> None:
        """Fill the table."""
        self.set_focus(self.query_one(Input))
        self._fill(self._current)

    def show_news(self, session: Session) -> None:
        """Show a newer state of the pool; the cursor stays on its model."""
        pool = session.pool
        if (pool.models, pool.nodes) != (self._pool.models, self._pool.nodes):
            self._pool = pool
            chosen = self._chosen
            self._fill(chosen.label if chosen else self._current)

    @on(Input.Changed)
    def filter_models(self) -> None:
        """Show what matches."""
        chosen = self._chosen
        self._fill(chosen.label if chosen else self._current)

    @on(DataTable.RowHighlighted)
    def show_details(self) -> None:
        """Show the model under the cursor."""
        chosen = self._chosen
        details = model_details(chosen, self._pool) if chosen else Text("No model matches.")
        if chosen and chosen.label == self._beside:
            details.append("\nasked as well: tab ends that", "bold")
        self.query_one("#model-details", Static).update(details)

    @on(DataTable.RowSelected)
    @on(Input.Submitted)
    def action_use(self) -> None:
        """Close with the model under the cursor, if it can be used."""
        self._take(beside=False)

    def action_use_beside(self) -> None:
        """Close with the model under the cursor as the second one."""
        self._take(beside=True)

    def _take(self, *, beside: bool) -> None:
        self.filter_models()  # keys may come faster than the filter is told of them
        chosen = self._chosen
        if chosen is None:
            return
        if chosen.usable:
            self.dismiss(Picked(chosen.label, beside))
        else:
            self.notify(chosen.problem or "No node can run it.", severity="warning", markup=False)

    def action_move(self, lines: int) -> None:
        """Move the cursor; the filter keeps the focus."""
        table = self.query_one(DataTable)
        table.move_cursor(row=table.cursor_row + lines)

    def action_close(self) -> None:
        """Close, changing nothing."""
        self.dismiss(None)

    @property
    def _chosen(self) -> ModelView | None:
        row = self.query_one(DataTable).cursor_row
        return self._models[row] if 0 <= row < len(self._models) else None

    def _fill(self, under_cursor: str) -> None:
        table = self.query_one(DataTable)
        self._models = matching(self._pool.models, self.query_one(Input).value)
        if not table.columns:
            table.add_columns(*(f"{name} " for name in MODEL_COLUMNS))
        table.clear()
        for model in self._models:
            table.add_row(*model_row(model, self._pool, self.app.size.width))
        labels = [model.label for model in self._models]
        table.move_cursor(row=labels.index(under_cursor) if under_cursor in labels else 0)
        self.show_details()
