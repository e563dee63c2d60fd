"""The line in which one types what a table is filtered by."""

from __future__ import annotations

from potluck_tui.widgets.line import Line


class FilterLine(Line):
    """Out of sight while it is empty and nobody types in it.

    Args:
        placeholder: What can be typed.
        value: What is filtered by already.
    """

    def __init__(self, placeholder: str, value: str = "") -> None:
        super().__init__(value, placeholder, widget_id="filter")
        self.display = bool(value)

    def open(self) -> None:
        """Begin to type."""
        self.display = True
        self.focus()

    def rest(self) -> None:
        """Stay in sight only while it filters."""
        self.display = bool(self.value)

    def leave(self) -> bool:
        """Filter by nothing, and say whether there was anything to leave."""
        if not (self.has_focus or self.value):
            return False
        self.value = ""
        self.rest()
        return True
