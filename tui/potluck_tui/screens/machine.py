"""One machine: all that is known, what was decided about it lately, the end of its log."""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.events import ScreenResume
from textual.widgets import Static

from potluck_tui import fleet_table
from potluck_tui.fleet import SAMPLE_SECONDS, Sample
from potluck_tui.instructions import Instruction
from potluck_tui.keys import EVERYWHERE, MACHINE, ORDERS, hints
from potluck_tui.machine import DecisionView, Outcome
from potluck_tui.pool import NodeView
from potluck_tui.screens.ordering import MachineOrdersScreen
from potluck_tui.session import Session
from potluck_tui.status import title_line
from potluck_tui.tables import node_details
from potluck_tui.widgets.bars import Bar, KeyHints

DECISIONS_SHOWN = 8
LOG_LINES_SHOWN = 8

LEAST_CELLS = 20
"""Of a line of the log, also before the screen has a width."""

LEGEND_INDENT = 2
"""Of the memory bar and of what its parts are: a line of 80 cells has room for little more."""

_OUTCOME_STYLES = {Outcome.CHOSEN: "green", Outcome.POSSIBLE: "", Outcome.REJECTED: "yellow"}


class MachineScreen(MachineOrdersScreen):
    """Parts that did not change are not drawn again.

    Args:
        session: Knows the machine that is shown.
        do: Carries out instructions.
        read_only: Machines are told nothing.
        show_log: Shows all logs of a machine.
    """

    PLACE = "machine"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in MACHINE]

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[Instruction]], None],
        show_log: Callable[[NodeView], Awaitable[None]],
        *,
        read_only: bool,
    ) -> None:
        super().__init__(session, do, read_only=read_only)
        self._show_log = show_log
        self._drawn: dict[str, object] = {}

    def compose(self) -> ComposeResult:
        """Build the parts."""
        yield Bar(widget_id="title")
        with VerticalScroll(id="machine"):
            yield Static(id="facts", markup=False)
            yield Static(id="decisions", markup=False)
            yield Static(id="last-lines", markup=False)
        yield KeyHints(hints(MACHINE, ORDERS, EVERYWHERE), widget_id="hints")

    def on_mount(self) -> None:
        """Let the keys scroll."""
        self.set_focus(self.query_one(VerticalScroll))

    @on(ScreenResume)
    def follow(self) -> None:
        """Follow the machine's log and the decisions about it, now or again."""
        if (node := self.chosen) is not None:
            self._do(self._session.inspector.show_machine(node))

    def show_news(self, session: Session) -> None:
        """Show the machine as it is known now."""
        node, inspector = self.chosen, session.inspector
        if node is None or not self.is_current:
            return
        self.query_one("#title", Bar).show(title_line(session, node.name, node.health.value))
        history = session.fleet.history(node.address)
        width = self.size.width
        fresh = node.age_seconds < fleet_table.FRESH_SECONDS
        seen = replace(node, age_seconds=0.0) if fresh else node
        measured = session.pool.measured_on(node.name)
        self._update(
            "facts",
            (seen, history, measured, width),
            lambda: _facts(seen, history, measured, width),
        )
        decisions = inspector.decisions[:DECISIONS_SHOWN]
        self._update("decisions", decisions, lambda: _decisions(decisions))
        log = inspector.log
        lines = log.lines[-LOG_LINES_SHOWN:] if log is not None else ()
        problem = log.problem if log is not None else ""
        self._update(
            "last-lines", (lines, problem, width), lambda: _last_lines(lines, problem, width)
        )

    def _update(self, part: str, state: object, draw: Callable[[], RenderableType]) -> None:
        if self._drawn.get(part) != state:
            self._drawn[part] = state
            self.query_one(f"#{part}", Static).update(draw())

    async def action_logs(self) -> None:
        """Show all logs of the machine."""
        if (node := self.chosen) is not None:
            await self._show_log(node)

    def action_close(self) -> None:
        """Go back to the machines."""
        self._do(self._session.inspector.close_machine())
        self.dismiss()

    @property
    def chosen(self) -> NodeView | None:
        """The machine that is shown, as it is now, or was when it left."""
        shown = self._session.inspector.machine
        return (self._session.pool.node(shown.address) or shown) if shown else None


def _facts(
    node: NodeView, history: Sequence[Sample], measured: Sequence[tuple[str, str]], width: int
) -> Group:
    table = node_details(node)
    if measured:
        table.add_row("")
        table.add_row(Text("Measured", "bold not dim"))
    for name, figures in measured:
        table.add_row("  speed", Text(f"{name}: {figures}"))
    cells = max(10, min(len(history), width - 50))
    minutes = round(len(history) * SAMPLE_SECONDS / 60)
    span = f"the last {minutes} minutes" if minutes > 1 else "the last minute"
    speeds = [sample.tokens_per_second for sample in history]
    if history:
        table.add_row("")
        table.add_row(Text("Lately", "bold not dim"), Text(span, "dim"))
        now = f" {speeds[-1]:.0f} tokens/s, {max(speeds):.0f} at most"
        table.add_row("  speed", Text(fleet_table.sparkline(speeds, cells), "cyan").append(now))
        shares = [sample.memory_share for sample in history]
        used = f" {shares[-1]:.0%} in use, {max(shares):.0%} at most"
        bars = Text(fleet_table.sparkline(shares, cells, 1.0), "magenta")
        table.add_row("  memory", bars.append(used))
    parts: list[RenderableType] = [table]
    if (device := node.main_device) is not None:
        bar = fleet_table.memory_bar(device, max(10, min(60, width - 16)))
        legend = bar.append("\n").append(fleet_table.memory_words(device))
        parts.append(Padding(legend, (0, 0, 0, LEGEND_INDENT)))
    return Group(*parts)


def _decisions(decisions: Sequence[DecisionView]) -> Group:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    for decision in decisions:
        said = Text(f"{decision.outcome}", _OUTCOME_STYLES[decision.outcome])
        said.append(f" for {decision.model}: {decision.reason}", "default")
        table.add_row(f"  {decision.clock}", said)
    none = Text("  none since the scheduler started", "dim")
    return Group(Text("\nLast decisions", "bold"), table if decisions else none)


def _last_lines(lines: Sequence[str], problem: str, width: int) -> Text:
    text = Text("\nLast lines of its log\n", "bold")
    wrapper = textwrap.TextWrapper(
        max(LEAST_CELLS, width - 4),
        initial_indent="  ",
        subsequent_indent="      ",
        break_on_hyphens=False,
    )
    wrapped = map(wrapper.fill, lines or [problem or "nothing yet"])
    return text.append("\n".join(wrapped), "not bold dim")
