"""All about one model: each property with its value, what that means here, and an explanation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Resize, ScreenResume

from potluck_tui.instructions import Instruction
from potluck_tui.keys import EVERYWHERE, MODEL, MODEL_ORDERS, hints
from potluck_tui.knowledge.primer import explanation
from potluck_tui.meaning import meaning, with_hardware
from potluck_tui.model_facts import Fact
from potluck_tui.pool import ModelView
from potluck_tui.screens.live import Pace
from potluck_tui.screens.ordering import ModelOrdersScreen
from potluck_tui.session import Session
from potluck_tui.status import title_line
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.widgets.rows import Row, Rows

NAME_CELLS = 15
"""Of the longest name of a property, and a space."""

_MEASURED = ("size", "hardware")
"""Properties under which the machines' own answers stand."""


class ModelScreen(ModelOrdersScreen):
    """A row for each property; below, the one under the cursor is explained.

    Args:
        session: What is known.
        do: Carries out instructions.
        model: Which one; where it leaves the pool it stays to be read.
        read_only: Machines are told nothing.
        ssh: The terminal is at the other end of an ssh connection.
    """

    PLACE = "model"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in MODEL]

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[Instruction]], None],
        model: ModelView,
        *,
        read_only: bool,
        ssh: bool,
    ) -> None:
        super().__init__(session, do, read_only=read_only)
        self._model = model
        self._pace = Pace(self, self._draw, ssh=ssh)
        self._facts: tuple[Fact, ...] = ()
        self._title = Bar(widget_id="title")
        self._rows = Rows(widget_id="facts-of-model")

    def compose(self) -> ComposeResult:
        """Build the table, and the place for the explanation."""
        yield self._title
        yield self._rows
        yield self.below
        yield KeyHints(hints(MODEL_ORDERS, MODEL, EVERYWHERE), widget_id="hints")

    def on_mount(self) -> None:
        """Ask what its files say, and what it takes."""
        self.set_focus(self._rows)
        label = self._model.label
        self._do([*self._session.facts.ask(label), *self._session.fits.ask(label)])

    def show_news(self, session: Session) -> None:
        """Show what is known now."""
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
        model, pool = self.chosen, self._session.pool
        self._title.show(title_line(self._session, model.label, pool.fit(model)))
        self._facts = with_hardware(self._session.facts.answer(model.label), model, pool)
        rows = [Row(str(number), _line(fact)) for number, fact in enumerate(self._facts)]
        self._rows.show(Text("property".ljust(NAME_CELLS) + "of this model"), rows)
        self.show_fact()

    @on(Rows.Moved)
    def show_fact(self) -> None:
        """Explain the property under the cursor."""
        key = self._rows.cursor_key
        at = int(key) if key else len(self._facts)
        text = self._explained(self._facts[at]) if at < len(self._facts) else Text("…")
        self.below.show(text, subject=self._rows.cursor_key)

    def _explained(self, fact: Fact) -> Text:
        model, session = self.chosen, self._session
        text = Text(fact.value, "bold")
        if fact.source:
            text.append(f" ({fact.source})", "not bold dim")
        if here := meaning(fact.name, model, session.pool):
            text.append("\n\nHere: ", "cyan").append(here, "not bold")
        if said := explanation(fact.name):
            text.append(f"\n\n{said}", "not bold")
        if fact.name in _MEASURED and (lines := session.fits.answer(model.label)):
            text.append("\n\n" + "\n".join(lines), "not bold")
        return text

    @property
    def chosen(self) -> ModelView:
        """The model as it is now, or was when it left."""
        known = {model.label: model for model in self._session.pool.models}
        return known.get(self._model.label) or replace(self._model, loaded_on=())

    def action_close(self) -> None:
        """Go back to the models."""
        self.dismiss()


def _line(fact: Fact) -> Text:
    style = "red" if fact.name == "problem" else ""
    return Text(fact.name.ljust(NAME_CELLS)).append(fact.value, style)
