"""What is looked at closely: a machine, what was decided about it, and a log of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from potluck_tui import events
from potluck_tui.instructions import FollowLog, ListDecisions
from potluck_tui.log_view import LogKey, LogView
from potluck_tui.machine import DecisionView
from potluck_tui.pool import NodeView

LogEvent = events.LogOpened | events.LogGrew | events.LogFailed


class Inspector:
    """At most one machine and one log at a time."""

    def __init__(self) -> None:
        self.log: LogView | None = None
        """The log that is followed."""
        self.machine: NodeView | None = None
        """The machine whose details are shown, as it was when they were opened."""
        self.decisions: tuple[DecisionView, ...] = ()
        """The last about that machine, newest first."""

    def show_machine(self, node: NodeView) -> Sequence[FollowLog | ListDecisions]:
        """Show the details of a machine, with its log and what was decided about it."""
        if self.machine is None or self.machine.address != node.address:
            self.decisions = ()
        self.machine = node
        return [*self.show_log(LogKey(node.address), node.name), *self.ask_for_decisions()]

    def close_machine(self) -> Sequence[FollowLog]:
        """Show the details of no machine."""
        self.machine = None
        return self.close_log()

    def ask_for_decisions(self) -> Sequence[ListDecisions]:
        """Ask what was decided about the machine that is shown."""
        node = self.machine
        return [ListDecisions(node.address, node.node_id)] if node and node.node_id else []

    def show_log(self, key: LogKey, node_name: str) -> Sequence[FollowLog]:
        """Show a log of a machine, in the place of the one that is shown."""
        shown = self.log
        models = shown.models if shown and shown.key.address == key.address else ()
        self.log = LogView(key, node_name, models)
        return [FollowLog(key)]

    def next_log(self, steps: int) -> Sequence[FollowLog]:
        """Show the log some steps further of the same machine."""
        if self.log is None or len(self.log.names) == 1:
            return []
        return self.show_log(self.log.beside(steps), self.log.node_name)

    def close_log(self) -> Sequence[FollowLog]:
        """Show no log."""
        self.log = None
        return [FollowLog()]

    def take_in(self, event: LogEvent | events.DecisionsSeen) -> None:
        """Take in what happens to what is shown; that of another comes too late."""
        match event:
            case events.DecisionsSeen(address, decisions):
                if self.machine is not None and self.machine.address == address:
                    self.decisions = decisions
            case _ if self.log is None or self.log.key != event.key:
                pass
            case events.LogOpened():
                self.log = self.log.anew(event.models, event.lines)
            case events.LogGrew():
                self.log = self.log.grown(event.lines)
            case events.LogFailed():
                self.log = replace(self.log, problem=event.sentence)
