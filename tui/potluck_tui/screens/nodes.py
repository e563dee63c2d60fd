"""The machines of the pool, live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Static

from potluck_tui.keys import EVERYWHERE, NODES, hints
from potluck_tui.pool import NodeView, PoolView
from potluck_tui.screens.dialogs import Details
from potluck_tui.status import StatusLine
from potluck_tui.tables import NODE_COLUMNS, node_details, node_row
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.words import counted

STRANGERS_SHOWN = 4


class NodesScreen(Screen[None]):
    """A row for each machine; only cells that changed are drawn again.

    Args:
        pool: What there is now; `show_pool` brings later ones.
        show_log: Shows the log of a machine.
    """

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in NODES]

    def __init__(self, pool: PoolView, show_log: Callable[[NodeView], Awaitable[None]]) -> None:
        super().__init__()
        self._pool = pool
        self._show_log = show_log

    def compose(self) -> ComposeResult:
        """Build the table."""
        yield Bar(widget_id="title")
        table: DataTable[object] = DataTable(cursor_type="row", cell_padding=0)
        yield table
        yield Static(id="node-problem", markup=False)
        yield Static(id="strangers", markup=False)
        yield KeyHints([*hints(NODES, EVERYWHERE)], widget_id="hints")

    def on_mount(self) -> None:
        """Fill the table."""
        table = self.query_one(DataTable)
        for name in NODE_COLUMNS:
            table.add_column(f"{name} ", key=name)
        self._fill()

    def show_pool(self, pool: PoolView) -> None:
        """Show a newer state of the pool."""
        self._pool = pool
        self._fill()

    @on(DataTable.RowSelected)
    def action_details(self) -> None:
        """Show all about the machine under the cursor."""
        if node := self._chosen:
            self.app.push_screen(Details(node.name, node_details(node)))

    async def action_logs(self) -> None:
        """Show the logs of the machine under the cursor."""
        if node := self._chosen:
            await self._show_log(node)

    @on(DataTable.RowHighlighted)
    def show_problem(self) -> None:
        """Say under the table why the machine under the cursor is not ready."""
        node = self._chosen
        advice = [engine.advice for engine in node.engines if not engine.available] if node else []
        words = node.problem if node and node.problem else " ".join(advice)
        if not self._pool.nodes:
            words = "No machine has joined. `potluck up` starts a worker on this one."
        self.query_one("#node-problem", Static).update(words)

    def action_close(self) -> None:
        """Go back to the chat."""
        self.dismiss()

    @property
    def _chosen(self) -> NodeView | None:
        row = self.query_one(DataTable).cursor_row
        return self._pool.nodes[row] if 0 <= row < len(self._pool.nodes) else None

    def _fill(self) -> None:
        pool = self._pool
        title = f"Machines: {counted(pool.nodes_ready, 'node')} ready of {len(pool.nodes)}"
        models = counted(len(pool.models), "model")
        self.query_one("#title", Bar).show(StatusLine(title, models))
        table = self.query_one(DataTable)
        names = [node.name for node in pool.nodes]
        if [row.key.value for row in table.ordered_rows] != names:
            table.clear()
            for node in pool.nodes:
                table.add_row(*node_row(node, self.app.size.width), key=node.name)
        else:
            for node in pool.nodes:
                cells = zip(NODE_COLUMNS, node_row(node, self.app.size.width), strict=True)
                for column, cell in cells:
                    if table.get_cell(node.name, column) != cell:
                        table.update_cell(node.name, column, cell, update_width=True)
        self.show_problem()
        self.query_one("#strangers", Static).update(_invitation(pool.strangers))


def _invitation(strangers: tuple[str, ...]) -> str:
    """Say who else is on the network, and how to have them in the pool."""
    if not strangers:
        return ""
    rows = [f"  {stranger}" for stranger in strangers[:STRANGERS_SHOWN]]
    if more := len(strangers) - STRANGERS_SHOWN:
        rows += [f"  and {more} more"] if more > 0 else []
    advice = "Not of this pool. i makes an invitation; `potluck join` there takes it:"
    return "\n".join([advice, *rows])
