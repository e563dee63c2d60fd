"""The prompt, and above it a line that says which files go with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Static, TextArea

from potluck_proto.errors import BadRequest
from potluck_tui import files
from potluck_tui.views import AttachedFile, Question
from potluck_tui.widgets.prompt import Prompt
from potluck_tui.words import counted

COMPLETIONS_SHOWN = 20


class Composer(Vertical):
    """Turns what is typed into a question with its files.

    Files are those of the machine that this program runs on.

    Args:
        pasted: The folder for long texts that are pasted.
    """

    class Sent(Message):
        """A question is ready."""

        def __init__(self, question: Question) -> None:
            super().__init__()
            self.question = question

    def __init__(self, pasted: Path, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self.prompt = Prompt(widget_id="prompt")
        self._pasted = pasted
        self._known: Sequence[AttachedFile] = ()
        self._line = Static(id="files", markup=False)

    @property
    def _folders(self) -> tuple[Path, ...]:
        return (files.here(), self._pasted)

    def compose(self) -> ComposeResult:
        """Build the line and the prompt."""
        yield self._line
        with Horizontal(id="prompt-row"):
            yield Static(">", id="prompt-mark", markup=False)
            yield self.prompt

    def fill(self, text: str, known: Sequence[AttachedFile] = ()) -> None:
        """Replace the text.

        Args:
            text: What is to be edited.
            known: What its `@names` mean, before any file of the disk.
        """
        self._known = known
        self.prompt.fill(text)

    @on(Prompt.Sent)
    async def read_files(self, event: Prompt.Sent) -> None:
        """Read the files that the text names; give the text back where one cannot be sent."""
        event.stop()
        try:
            read = await asyncio.to_thread(files.attached, event.text, self._folders, self._known)
        except BadRequest as error:
            typed = self.prompt.text
            self.prompt.fill(f"{event.text}\n\n{typed}" if typed else event.text)
            self.notify(error.message, severity="error", markup=False)
            return
        self._known = ()
        self.post_message(self.Sent(Question(event.text, tuple(read))))

    @on(TextArea.Changed)
    def look_at_files(self) -> None:
        """Say which files the text names; the disk is asked in the background."""
        text = self.prompt.text
        if "@" in text:
            self.run_worker(self._say_files(text), group="files", exclusive=True)
        elif self._line.display:
            self._say("")

    async def _say_files(self, text: str) -> None:
        typing = self.prompt.path_under_cursor
        named = await asyncio.to_thread(files.described, text, self._folders, self._known)
        missing = await asyncio.to_thread(files.missing, text, self._folders, self._known, typing)
        words = [f"with {named}"] if named else []
        words += [f"no file: {', '.join(missing)}"] if missing else []
        self._say(" · ".join(words))

    def _say(self, words: str) -> None:
        self._line.update(words)
        self._line.display = bool(words)

    @on(Prompt.Complete)
    async def complete(self, event: Prompt.Complete) -> None:
        """Complete a path as far as it is certain, and say what it may be."""
        event.stop()
        paths = await asyncio.to_thread(files.completions, event.typed, self._folders)
        if self.prompt.path_under_cursor != event.typed:
            return
        if not paths:
            self._say(f"no file begins with {event.typed}" if event.typed else "no files here")
        elif len(paths) == 1:
            self.prompt.put_path(paths[0])
        elif len(beginning := files.common_beginning(paths)) > len(event.typed):
            self.prompt.put_path(beginning, whole=False)
        else:
            names = [
                path.rstrip("/").rpartition("/")[2] + "/" * path.endswith("/") for path in paths
            ]
            more = len(names) - COMPLETIONS_SHOWN
            rest = f"  and {more} more" if more > 0 else ""
            self._say("  ".join(names[:COMPLETIONS_SHOWN]) + rest)

    @on(Prompt.LongPaste)
    async def attach_pasted(self, event: Prompt.LongPaste) -> None:
        """Attach a long text as a file, and say so in the prompt."""
        event.stop()
        try:
            name = await asyncio.to_thread(files.keep_pasted, event.text, self._pasted)
        except OSError as error:
            words = f"The pasted text cannot be kept ({error.strerror})."
            self.notify(words, severity="error", markup=False)
            return
        self.prompt.put_mention(files.as_mention(name))
        lines = counted(len(event.text.splitlines()), "line")
        self.notify(f"The pasted text, {lines}, is attached as {name}.", markup=False)
