"""Where the reader types. It stays editable whatever else happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

LONGEST_LINES = 6
"""The prompt grows to this height, then scrolls."""


@dataclass(slots=True)
class History:
    """Prompts that were sent, for going back to them; what was being typed stays at the end."""

    sent: list[str] = field(default_factory=list)
    _position: int = 0
    _typed: str = ""

    def add(self, text: str) -> None:
        """Add a prompt at the end, and start from there."""
        if text and (not self.sent or self.sent[-1] != text):
            self.sent.append(text)
        self._position = len(self.sent)
        self._typed = ""

    def replace(self, sent: list[str]) -> None:
        """Take the prompts of another chat."""
        self.sent = sent
        self._position = len(sent)
        self._typed = ""

    def older(self, current: str) -> str | None:
        """Return the prompt before, or `None` at the first."""
        if self._position == 0:
            return None
        if self._position == len(self.sent):
            self._typed = current
        self._position -= 1
        return self.sent[self._position]

    def newer(self) -> str | None:
        """Return the prompt after, what was typed at the end, or `None` there already."""
        if self._position == len(self.sent):
            return None
        self._position += 1
        return self._typed if self._position == len(self.sent) else self.sent[self._position]


class Prompt(TextArea):
    """A text of several lines that Enter sends.

    Keys act in the order in which they were typed, also when a slow link delivers many at once:
    bindings run here, and not after a detour through the app, which later letters would overtake.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", id="prompt.send", show=False),
        Binding(
            "ctrl+j,shift+enter,alt+enter", "newline", "New line", id="prompt.newline", show=False
        ),
        Binding("pageup", "screen.page(-1)", "Scroll up", id="prompt.page_up", show=False),
        Binding("pagedown", "screen.page(1)", "Scroll down", id="prompt.page_down", show=False),
        Binding("up", "up", "Earlier prompt", id="prompt.up", show=False),
        Binding("down", "down", "Later prompt", id="prompt.down", show=False),
    ]

    class Sent(Message):
        """The reader pressed Enter on a text."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class TakeBack(Message):
        """The reader wants the last waiting prompt, or else the last sent one, to edit it."""

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__(
            id=widget_id,
            show_line_numbers=False,
            highlight_cursor_line=False,
            soft_wrap=True,
            placeholder="Ask something",
            compact=True,
        )
        self.cursor_blink = False
        self.earlier = History()

    def fill(self, text: str) -> None:
        """Replace the text; the cursor goes to its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        """Run what the key is bound to, here or further up, before the next key is looked at."""
        active = self.screen.active_bindings.get(event.key)
        if active is not None:
            event.stop()
            event.prevent_default()
            await self.app.run_action(active.binding.action, active.node)
        else:
            await super()._on_key(event)

    def action_send(self) -> None:
        """Hand the text over and start an empty one."""
        text = self.text.strip()
        if text:
            self.earlier.add(text)
            self.fill("")
            self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        """Start a new line."""
        self.insert("\n")

    def action_up(self) -> None:
        """Move up; from the first line, go to an earlier prompt."""
        if not self.cursor_at_first_line:
            self.action_cursor_up()
        elif not self.text:
            self.post_message(self.TakeBack())
        else:
            self.recall_older()

    def recall_older(self) -> None:
        """Show the prompt before the one that shows."""
        if (text := self.earlier.older(self.text)) is not None:
            self.fill(text)

    def action_down(self) -> None:
        """Move down; from the last line, go to a later prompt."""
        if not self.cursor_at_last_line:
            self.action_cursor_down()
        elif (text := self.earlier.newer()) is not None:
            self.fill(text)
