"""The machines of the pool, live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Resize, ScreenResume
from textual.widgets import Input, Static

from potluck_tui import fleet_table
from potluck_tui.fleet import Fleet, fault
from potluck_tui.instructions import Instruction
from potluck_tui.keys import EVERYWHERE, NODES, ORDERS, hints
from potluck_tui.pool import NodeView
from potluck_tui.screens.live import Pace
from potluck_tui.screens.ordering import MachineOrdersScreen
from potluck_tui.session import Session
from potluck_tui.status import title_line
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.widgets.filter_line import FilterLine
from potluck_tui.widgets.rows import Row, Rows
from potluck_tui.words import NO_MACHINE

STRANGERS_SHOWN = 4
SCHEDULER_AWAY = "This is old. Where the scheduler has ended, `potluck up` starts it again."


class NodesScreen(MachineOrdersScreen):
    """A row for each machine; only rows that changed are drawn again.

    Args:
        session: What is known.
        do: Carries out instructions.
        read_only: Machines are told nothing.
        ssh: The terminal is at the other end of an ssh connection.
        open_: Opens another place: `machine`, `logs` or `models`.
    """

    PLACE = "machines"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in NODES]

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[Instruction]], None],
        open_: Callable[[str, NodeView | None], Awaitable[None]],
        *,
        read_only: bool,
        ssh: bool,
    ) -> None:
        super().__init__(session, do, read_only=read_only)
        self._open = open_
        self._pace = Pace(self, self._draw, ssh=ssh)
        self._said: dict[str, Text] = {}
        self._rows = Rows(widget_id="machines")
        self._filter = FilterLine("Filter: words, !without", session.fleet.filter)

    def compose(self) -> ComposeResult:
        """Build the table, and what stands below it."""
        yield Bar(widget_id="title")
        yield self._rows
        yield Static(id="machine-line", markup=False)
        yield Static(id="node-problem", markup=False)
        yield Static(id="strangers", markup=False)
        yield self._filter
        yield KeyHints(hints(NODES, EVERYWHERE[:1], ORDERS, EVERYWHERE[1:]), widget_id="hints")

    def on_mount(self) -> None:
        """Begin at the table."""
        self.set_focus(self._rows)

    @on(ScreenResume)
    @on(Resize)
    def draw(self) -> None:
        """Draw all that is known now."""
        self._draw()

    def show_news(self, session: Session) -> None:
        """Show a newer state of the pool, soon."""
        self._pace.news()

    @on(Rows.Moved)
    def show_chosen(self) -> None:
        """Show more of the machine under the cursor."""
        node = self.chosen
        self._say("machine-line", self._more(node) if node else Text())
        words = fault(node) if node else self._why_none()
        if self._session.connected is False:
            words = SCHEDULER_AWAY
        self._say("node-problem", Text(words))

    def _say(self, part: str, words: Text) -> None:
        """Show other words in a part below the table, if they are others."""
        if self._said.get(part) != words:
            self._said[part] = words
            self.query_one(f"#{part}", Static).update(words)

    async def action_details(self) -> None:
        """Show all about the machine under the cursor."""
        if node := self.chosen:
            await self._open("machine", node)

    async def action_logs(self) -> None:
        """Show the logs of the machine under the cursor."""
        if node := self.chosen:
            await self._open("logs", node)

    async def action_models(self) -> None:
        """Show the models of the pool."""
        await self._open("models", None)

    def action_sort(self) -> None:
        """Sort by the next figure."""
        self._fleet.sort_by_next()
        self._draw()

    def action_faults(self) -> None:
        """Show only machines with something wrong, or all."""
        self._fleet.faults_only = not self._fleet.faults_only
        self._draw()

    def action_filter(self) -> None:
        """Type a filter."""
        self._filter.open()

    @on(Input.Changed)
    def filter_changed(self) -> None:
        """Show what matches."""
        self._fleet.filter = self._filter.value
        self._draw()

    @on(Input.Submitted)
    def filter_done(self) -> None:
        """Go back to the machines; the filter stays."""
        self._filter.rest()
        self.set_focus(self._rows)

    def action_close(self) -> None:
        """Leave the filter, or go back to the chat."""
        if self._filter.leave():
            self.set_focus(self._rows)
        else:
            self.dismiss()

    @property
    def chosen(self) -> NodeView | None:
        """The machine under the cursor."""
        return self._session.pool.node(self._rows.cursor_key)

    @property
    def _fleet(self) -> Fleet:
        return self._session.fleet

    def _draw(self) -> None:
        self._pace.drawn()
        if not self.is_current:
            return
        pool, fleet, width = self._session.pool, self._fleet, self.size.width
        nodes = fleet.shown(pool.nodes)
        title = f"Machines: {pool.nodes_ready} of {len(pool.nodes)} ready"
        self.query_one("#title", Bar).show(title_line(self._session, title, self._how()))
        rows = [
            Row(
                node.address,
                fleet_table.line(
                    node, width, fleet.history(node.address), fleet.loading.get(node.address, ())
                ),
            )
            for node in nodes
        ]
        self._rows.show(fleet_table.heading(width), rows)
        self._say("strangers", Text(_invitation(pool.strangers)))
        self.show_chosen()

    def _why_none(self) -> str:
        """Say why the table is empty."""
        if not self._session.pool.nodes:
            return NO_MACHINE
        if self._fleet.filter:
            return "No machine matches the filter. Esc there leaves it."
        return "No machine has a fault. z shows all."

    def _how(self) -> str:
        """Say what is shown and in which order."""
        parts = [f"by {self._fleet.sort}"]
        if self._fleet.faults_only:
            parts.append("faults only")
        if self._read_only:
            parts.append("read-only")
        return " · ".join(parts)

    def _more(self, node: NodeView) -> Text:
        """Return two lines on a machine, for what a narrow table has no room for."""
        device = node.main_device
        text = fleet_table.memory_words(device) if device else Text()
        facts = [device.name] if device else []
        if device and device.utilisation is not None:
            facts.append(f"{device.utilisation:.0%} busy")
        if node.temperature_celsius is not None:
            facts.append(f"{node.temperature_celsius:.0f} °C")
        if node.watts is not None:
            facts.append(f"{node.watts:.0f} W")
        if node.round_trip_seconds:
            facts.append(f"round trip {node.round_trip_seconds * 1000:.0f} ms")
        loads = self._fleet.loading.get(node.address, ())
        facts = [fleet_table.loading_words(loads[0])] if loads else facts
        return Text("\n").join([text, Text(" · ".join(facts), "dim")])


def _invitation(strangers: tuple[str, ...]) -> str:
    """Say who else is on the network, and how to have them in the pool."""
    if not strangers:
        return ""
    rows = [f"  {stranger}" for stranger in strangers[:STRANGERS_SHOWN]]
    if more := len(strangers) - STRANGERS_SHOWN:
        rows += [f"  and {more} more"] if more > 0 else []
    advice = "Not of this pool. i makes an invitation; `potluck join` there takes it:"
    return "\n".join([advice, *rows])
