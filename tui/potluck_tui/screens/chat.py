"""The chat: list of chats, transcript, prompt, status and keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import OptionList, Static, TextArea

from potluck_proto.ids import ChatId
from potluck_tui.drafts import Drafts
from potluck_tui.escape import WINDOW_SECONDS, DoubleEscape
from potluck_tui.events import (
    AdoptDraft,
    Instruction,
    KeepDraft,
    LoadDraft,
    ReturnToPrompt,
    Say,
    ScreenInstruction,
)
from potluck_tui.keys import CHAT, CHAT_LIST_HINTS, EVERYWHERE, hints
from potluck_tui.screens.dialogs import Ask, Confirm
from potluck_tui.session import NEW_CHAT, Session
from potluck_tui.status import StatusLine, status_line
from potluck_tui.views import Speaker
from potluck_tui.welcome import welcome
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.widgets.chat_list import ChatList
from potluck_tui.widgets.prompt import Prompt
from potluck_tui.widgets.transcript import Transcript

DRAFT_SECONDS = 0.5
"""A draft is written this long after the last key."""


class ChatScreen(Screen[None]):
    """The main place. It shows the session and turns keys into what the session does.

    Args:
        session: What is known; whoever changes it calls `show_session` afterwards.
        drafts: What was typed and not sent.
        do: Carries out instructions.
        models_folder: Where the user puts model files, for the welcome.
        ssh: The terminal is at the other end of an ssh connection.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        key.binding() for key in CHAT if key.id not in {"chat.model", "chat.nodes", "chat.copy"}
    ]

    def __init__(
        self,
        session: Session,
        drafts: Drafts,
        do: Callable[[list[Instruction]], None],
        models_folder: Path,
        *,
        ssh: bool,
    ) -> None:
        super().__init__()
        self._session = session
        self._drafts = drafts
        self._do = do
        self._models_folder = models_folder
        self._ssh = ssh
        self._escape = DoubleEscape()
        self._escape_armed = False
        self._disarm_timer: Timer | None = None
        self._draft_timer: Timer | None = None
        self._built = False
        self._title = Bar(widget_id="title")
        self._chats = ChatList(widget_id="chats")
        self._transcript = Transcript(widget_id="transcript")
        self._prompt = Prompt(widget_id="prompt")
        self._status = Bar(widget_id="status")
        self._hints = KeyHints(hints(CHAT, EVERYWHERE), widget_id="hints")

    def compose(self) -> ComposeResult:
        """Build the places of the screen."""
        yield self._title
        with Horizontal(id="middle"):
            yield self._chats
            with Vertical(id="talk"):
                yield self._transcript
                with Horizontal(id="prompt-row"):
                    yield Static(">", id="prompt-mark", markup=False)
                    yield self._prompt
        yield self._status
        yield self._hints

    def on_mount(self) -> None:
        """Start with the new chat's draft."""
        self._built = True
        self.set_class(self._ssh, "-ssh")
        self._prompt.fill(self._drafts.get(self._session.chat_id))
        self._prompt.focus()
        self.show_session()

    # --- Showing ---------------------------------------------------------------------------------

    def show_session(self) -> None:
        """Show what the session knows now. Parts that did not change are not drawn."""
        session = self._session
        if not self._built:
            return
        chat_count = counted_chats(len(session.chats))
        self._title.show(StatusLine(session.title, chat_count))
        self._chats.show(session.chats, session.chat_id)
        introduction = None
        if not session.turns and not session.loading:
            introduction = welcome(
                session.pool, session.model, self._models_folder, session.connected
            )
        self._transcript.show(
            session.turns, session.queue, chat=session.visit, introduction=introduction
        )
        self._show_status()

    def _show_status(self) -> None:
        line = status_line(
            self._session,
            ssh=self._ssh,
            following=self._transcript.following,
            escape_armed=self._escape_armed,
        )
        self._status.show(line)

    def carry_out(self, instruction: ScreenInstruction) -> None:
        """Do what the session asks of the screen."""
        match instruction:
            case LoadDraft(chat_id):
                self._prompt.fill(self._drafts.get(chat_id))
                self._prompt.focus()
            case AdoptDraft(chat_id):
                self._drafts.put(NEW_CHAT, "")
                self._drafts.put(chat_id, self._session.draft(self._prompt.text))
            case KeepDraft(chat_id, text):
                kept = self._drafts.get(chat_id)
                self._drafts.put(chat_id, f"{text}\n\n{kept}" if kept else text)
            case ReturnToPrompt(text):
                typed = self._prompt.text
                self._prompt.fill(f"{text}\n\n{typed}" if typed else text)
            case Say(sentence, problem):
                self.notify(sentence, severity="error" if problem else "information", markup=False)

    # --- Typing ----------------------------------------------------------------------------------

    @on(Prompt.Sent)
    def send(self, event: Prompt.Sent) -> None:
        """Send a prompt, or queue it."""
        self._transcript.to_end()
        self._do(self._session.send(event.text))
        self.keep_draft()

    @on(Prompt.TakeBack)
    def take_back(self) -> None:
        """Put the last waiting prompt back to edit it; without one, recall a sent one."""
        if text := self._session.take_back():
            self._prompt.fill(text)
            self.show_session()
            return
        if not self._prompt.earlier.sent:
            self._prompt.earlier.replace(
                [turn.text for turn in self._session.turns if turn.speaker is Speaker.USER]
            )
        self._prompt.recall_older()

    @on(TextArea.Changed)
    def remember_typing(self) -> None:
        """Keep the draft, and write it a moment after the last key."""
        self._disarm()
        self._drafts.put(self._session.chat_id, self._session.draft(self._prompt.text))
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(DRAFT_SECONDS, self.save_drafts)

    def keep_draft(self) -> None:
        """Write now what must not be lost."""
        self._drafts.put(self._session.chat_id, self._session.draft(self._prompt.text))
        self.save_drafts()

    def save_drafts(self) -> None:
        """Write the drafts; say so where that fails."""
        try:
            self._drafts.save()
        except OSError as error:
            self.notify(
                f"What you type cannot be saved ({error.strerror}).",
                severity="warning",
                markup=False,
            )

    # --- Keys ------------------------------------------------------------------------------------

    def action_escape(self) -> None:
        """Go back to the prompt; there, the second Esc in a row stops the answer."""
        if self.focused is not self._prompt:
            self._close_drawer()
            self._prompt.focus()
            return
        if self._session.answer is None:
            return
        if self._escape.press(time.monotonic()):
            self._disarm()
            self._do(self._session.stop())
            return
        self._escape_armed = True
        self._show_status()
        self._disarm_timer = self.set_timer(WINDOW_SECONDS, self._disarm)

    def _disarm(self) -> None:
        self._escape.other_key()
        if self._disarm_timer is not None:
            self._disarm_timer.stop()
            self._disarm_timer = None
        if self._escape_armed:
            self._escape_armed = False
            self._show_status()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Show the keys of the part that has the focus."""
        in_list = isinstance(event.widget, ChatList)
        shown = CHAT_LIST_HINTS if in_list else hints(CHAT, EVERYWHERE)
        self._hints.show(shown)

    def action_new_chat(self) -> None:
        """Show an empty chat."""
        self.keep_draft()
        self._close_drawer()
        self._prompt.earlier.replace([])
        self._do(self._session.new_chat())

    def action_toggle_chats(self) -> None:
        """Go to the list of chats, or back to the prompt."""
        if self._chats.has_focus:
            self._close_drawer()
            self._prompt.focus()
        else:
            self._chats.add_class("-open")
            self._chats.focus()

    def _close_drawer(self) -> None:
        self._chats.remove_class("-open")

    @on(OptionList.OptionSelected, "#chats")
    def open_chat(self, event: OptionList.OptionSelected) -> None:
        """Show the chat that was chosen."""
        self.keep_draft()
        self._close_drawer()
        self._prompt.focus()
        chat_id = ChatId(event.option_id or "")
        if chat_id != self._session.chat_id:
            self._prompt.earlier.replace([])
            self._do(self._session.open_chat(chat_id))

    def action_rename_chat(self) -> None:
        """Ask for another title for this chat."""
        self._ask_title(self._session.chat_id)

    def action_delete_chat(self) -> None:
        """Ask whether to delete this chat."""
        self._ask_delete(self._session.chat_id)

    @on(ChatList.Rename)
    def rename_listed(self, event: ChatList.Rename) -> None:
        """Ask for another title for a chat of the list."""
        self._ask_title(event.chat_id)

    @on(ChatList.Delete)
    def delete_listed(self, event: ChatList.Delete) -> None:
        """Ask whether to delete a chat of the list."""
        self._ask_delete(event.chat_id)

    def _ask_title(self, chat_id: ChatId) -> None:
        if (chat := self._session.chat(chat_id)) is None:
            self.notify("This chat has no name yet: it gets one with its first prompt.")
            return

        def rename(title: str | None) -> None:
            self._do(self._session.rename(chat_id, title or ""))

        self.app.push_screen(Ask("Title of the chat", chat.title), rename)

    def _ask_delete(self, chat_id: ChatId) -> None:
        if (chat := self._session.chat(chat_id)) is None:
            self.notify("Nothing to delete: this chat is empty.")
            return

        def delete(yes: bool | None) -> None:
            self._do(self._session.delete(chat_id) if yes else [])

        question = f"Delete “{chat.title}” with its {chat.message_count} messages? For good."
        self.app.push_screen(Confirm(question), delete)

    def action_page(self, direction: int) -> None:
        """Scroll the transcript by a page, leaving two lines of the one before."""
        lines = max(1, self._transcript.size.height - 2)
        self._transcript.scroll_relative(y=direction * lines, animate=False, force=True)

    def action_to_start(self) -> None:
        """Scroll to the start."""
        self._transcript.scroll_to(y=0, animate=False, force=True)

    def action_to_end(self) -> None:
        """Scroll to the end, and follow it."""
        self._transcript.to_end()

    @on(Transcript.FollowingChanged)
    def following_changed(self) -> None:
        """Say in the status line that there is more below."""
        self._show_status()


def counted_chats(count: int) -> str:
    """Return how many chats there are, in words; empty for none."""
    return f"{count} chat{'' if count == 1 else 's'}" if count else ""
