"""Where the reader types. It stays editable whatever else happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import TextArea

from potluck_tui import files
from potluck_tui.clean import clean
from potluck_tui.keys import CHAT, EVERYWHERE, PROMPT
from potluck_tui.widgets.keys_in_order import run_in_order

LONGEST_LINES = 6
"""The prompt grows to this height, then scrolls."""

LONG_PASTE_CHARACTERS = 8000
LONG_PASTE_LINES = 200
"""From here on a pasted text is attached as a file: a key after it would be slow to show."""

_TAKEN_BY_TEXT_AREA = {
    "chat.rename",
    "chat.options",
    "chat.search",
    "chat.page_up",
    "chat.page_down",
    "app.suspend",
}


@dataclass(slots=True)
class History:
    """Prompts that were sent, for going back to them; what was being typed stays at the end."""

    sent: list[str] = field(default_factory=list)
    _position: int = 0
    _typed: str = ""

    def begin(self, sent: Sequence[str]) -> None:
        """Start to go back, from the end of what was sent until now."""
        self.sent = list(sent)
        self._position = len(sent)
        self._typed = ""

    @property
    def at_end(self) -> bool:
        """Say whether what shows was typed just now."""
        return self._position == len(self.sent)

    def older(self, current: str) -> str | None:
        """Return the prompt before, or `None` at the first."""
        if self._position == 0:
            return None
        if self.at_end:
            self._typed = current
        self._position -= 1
        return self.sent[self._position]

    def newer(self) -> str | None:
        """Return the prompt after, what was typed at the end, or `None` there already."""
        if self.at_end:
            return None
        self._position += 1
        return self._typed if self.at_end else self.sent[self._position]


class Prompt(TextArea):
    """A text of several lines that Enter sends."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(key.binding() for key in PROMPT),
        *(key.binding("screen") for key in CHAT if key.id in _TAKEN_BY_TEXT_AREA),
        *(key.binding("app") for key in EVERYWHERE if key.id in _TAKEN_BY_TEXT_AREA),
    ]

    class Sent(Message):
        """The reader pressed Enter on a text."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class TakeBack(Message):
        """The reader wants the last waiting prompt, or else the last sent one, to edit it."""

    class Complete(Message):
        """The reader wants the path behind an `@` completed."""

        def __init__(self, typed: str) -> None:
            super().__init__()
            self.typed = typed

    class LongPaste(Message):
        """The reader pasted more than belongs into the prompt."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

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

    @property
    def path_under_cursor(self) -> str | None:
        """The path that is being typed behind an `@`, `None` where none is."""
        row, column = self.cursor_location
        return files.unfinished(self.document.get_line(row)[:column])

    def put_path(self, path: str, *, whole: bool = True) -> None:
        """Put a path, or the beginning of one, in the place of what is being typed."""
        typed = self.path_under_cursor
        if typed is None:
            return
        row, column = self.cursor_location
        before = self.document.get_line(row)[:column]
        quoted = before.endswith(f'@"{typed}')
        start = column - len(typed) - (2 if quoted else 1)
        self.replace(files.as_mention(path, whole=whole), (row, start), (row, column))

    def put_mention(self, mention: str) -> None:
        """Put the mention of a file where the cursor is, apart from a word before it."""
        row, column = self.cursor_location
        before = self.document.get_line(row)[:column]
        apart = " " if before and not before[-1].isspace() else ""
        self.insert(apart + mention)

    async def _on_key(self, event: events.Key) -> None:
        await run_in_order(self, event)

    async def _on_paste(self, event: events.Paste) -> None:
        """Take a pasted text as it is, in one go, or have it attached where it is long."""
        event.stop()
        event.prevent_default()
        # Terminals send a carriage return for the end of a line.
        text = clean(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        if len(text) > LONG_PASTE_CHARACTERS or text.count("\n") > LONG_PASTE_LINES:
            self.post_message(self.LongPaste(text))
        else:
            self.insert(text)

    def action_send(self) -> None:
        """Hand the text over and start an empty one."""
        text = self.text.strip()
        if text:
            self.earlier.begin([])
            self.fill("")
            self.post_message(self.Sent(text))

    def action_copy(self) -> None:
        """Copy what is selected; where nothing is, somebody wants to leave."""
        if self.selected_text:
            super().action_copy()
        else:
            self.app.action_help_quit()

    def action_newline(self) -> None:
        """Start a new line."""
        self.insert("\n")

    async def action_complete(self) -> None:
        """Complete a path; where none is being typed, go to the messages."""
        if (typed := self.path_under_cursor) is not None:
            self.post_message(self.Complete(typed))
        else:
            await self.app.run_action("screen.read", self)

    def action_up(self) -> None:
        """Move up; from the first line, go to an earlier prompt."""
        if not self.cursor_at_first_line:
            self.action_cursor_up()
        elif self.earlier.at_end:
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
