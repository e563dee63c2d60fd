"""The logs of one machine, live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import RichLog, Static

from potluck_tui.inspector import Inspector
from potluck_tui.instructions import Instruction
from potluck_tui.keys import EVERYWHERE, LOGS, hints
from potluck_tui.log_view import LINES_KEPT, WORKER, LogKey, LogView
from potluck_tui.screens.live import Live
from potluck_tui.session import Session
from potluck_tui.status import StatusLine
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.words import counted


class LogsScreen(Screen[None], Live):
    """The newest lines of a log; it follows its end until somebody scrolls up.

    Args:
        inspector: Knows the log that is shown.
        do: Carries out what the session asks for.
    """

    PLACE = "logs"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in LOGS]

    def __init__(self, inspector: Inspector, do: Callable[[Sequence[Instruction]], None]) -> None:
        super().__init__()
        self._inspector = inspector
        self._do = do
        self._drawn: tuple[LogKey, int] | None = None
        self._count = 0

    def compose(self) -> ComposeResult:
        """Build the log between its title and what to know of it."""
        yield Bar(widget_id="title")
        yield RichLog(id="log", wrap=True, max_lines=LINES_KEPT)
        yield Static(id="log-problem", markup=False)
        yield KeyHints([*hints(LOGS, EVERYWHERE)], widget_id="hints")

    def on_mount(self) -> None:
        """Let the keys scroll."""
        self.query_one(RichLog).focus()

    def show_news(self, session: Session) -> None:
        """Show the log as the session knows it now; only what is new is drawn."""
        self._draw()

    def _draw(self) -> None:
        view, log = self._inspector.log, self.query_one(RichLog)
        width = log.scrollable_content_region.width
        if view is None or not width:
            return
        name = view.key.model or WORKER
        number = f"{view.place + 1} of {counted(len(view.names), 'log')}"
        self.query_one("#title", Bar).show(StatusLine(f"Log of {view.node_name}: {name}", number))
        self.query_one("#log-problem", Static).update(_words(view))
        if self._drawn != (view.key, view.opened):
            self._drawn, self._count = (view.key, view.opened), 0
            log.clear()
        following = log.is_vertical_scroll_end
        for line in view.lines[max(0, len(view.lines) - view.count + self._count) :]:
            log.write(line, width=width, scroll_end=following)
        self._count = view.count

    def on_resize(self) -> None:
        """Wrap the lines at the new width, once the log has it."""
        self.call_after_refresh(self._show_anew)

    def _show_anew(self) -> None:
        self._drawn = None
        self._draw()

    def action_next_log(self, steps: int) -> None:
        """Show another log of this machine."""
        self._do(self._inspector.next_log(steps))

    def action_close(self) -> None:
        """Go back to the machines."""
        self._do(self._inspector.close_log())
        self.dismiss()


def _words(view: LogView) -> str:
    """Return what to know of a log beside its lines."""
    if view.problem:
        return view.problem
    return "Nothing is in this log yet." if view.opened and not view.lines else ""
