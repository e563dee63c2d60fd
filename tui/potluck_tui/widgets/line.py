"""A line to type in."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.widgets import Input

from potluck_tui.widgets.keys_in_order import run_in_order


class Line(Input, inherit_bindings=False):
    """One line of text, whose keys act in the order in which they were typed.

    Args:
        value: What stands in it.
        placeholder: What shows while nothing does.
        password: Whether it hides what is typed.
    """

    # Not those for scrolling, which it has from further up and skips: they belong to the screen.
    BINDINGS: ClassVar[list[BindingType]] = [*Input.BINDINGS]

    def __init__(
        self,
        value: str = "",
        placeholder: str = "",
        *,
        password: bool = False,
        widget_id: str | None = None,
    ) -> None:
        super().__init__(value, placeholder, password=password, id=widget_id, compact=True)
        self.cursor_blink = False

    async def _on_key(self, event: events.Key) -> None:
        if not (event.is_printable and self.app.screen.focused is self):
            await run_in_order(self, event)
