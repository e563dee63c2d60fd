"""The one-line bars: title at the top, status and keys at the bottom."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.widget import Widget

from potluck_tui.captions import fitted
from potluck_tui.keys import Key, Keymap
from potluck_tui.status import StatusLine


class Bar(Widget):
    """One line with a text at each end; it is drawn again only when they change."""

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self._line = StatusLine("", "")

    def show(self, line: StatusLine) -> None:
        """Show another line."""
        if line != self._line:
            self._line = line
            self.set_class(line.problem, "-problem")
            self.refresh()

    def render(self) -> Text:
        """Return the line; where it is too short, its left end gives way."""
        width = self.size.width
        right = fitted(self._line.right, width)
        room = max(0, width - cell_len(right) - 1)
        text = Text(set_cell_size(fitted(self._line.left, room), room), no_wrap=True)
        return text.append(" ").append(right)


class KeyHints(Widget):
    """The keys that matter here, as far as they fit.

    Args:
        hints: Keys of the tables, shown as the reader has bound them, or plain pairs of key and
            word.
    """

    def __init__(
        self, hints: Sequence[Key | tuple[str, str]], *, widget_id: str | None = None
    ) -> None:
        super().__init__(id=widget_id)
        self._hints = tuple(hints)

    def show(self, hints: Sequence[Key | tuple[str, str]]) -> None:
        """Show other keys."""
        if tuple(hints) != self._hints:
            self._hints = tuple(hints)
            self.refresh()

    def render(self) -> Text:
        """Return keys and words, leaving out at the end what does not fit whole."""
        keymap: Keymap = getattr(self.app, "keymap", {})
        text = Text(no_wrap=True)
        for hint in self._hints:
            key, words = (hint.on(keymap).short, hint.hint) if isinstance(hint, Key) else hint
            if text.cell_len + cell_len(f"{key} {words}") > self.size.width:
                break
            text.append(key, "bold").append(f" {words}  " if words else " ", "dim")
        return text
