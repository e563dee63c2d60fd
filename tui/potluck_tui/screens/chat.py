"""The chat: list of chats, transcript, prompt, status and keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import OptionList, TextArea

from potluck_proto.home import Home
from potluck_proto.ids import ChatId
from potluck_tui import instructions as do
from potluck_tui.drafts import Drafts
from potluck_tui.escape import WINDOW_SECONDS, DoubleEscape
from potluck_tui.export import Format
from potluck_tui.highlight import words_of
from potluck_tui.instructions import Instruction, ScreenInstruction
from potluck_tui.keys import CHAT, CHAT_LIST, EVERYWHERE, TRANSCRIPT, hints, press
from potluck_tui.screens.dialogs import Ask
from potluck_tui.screens.message_actions import MessageActions
from potluck_tui.session import Session
from potluck_tui.status import StatusLine, status_line
from potluck_tui.views import NEW_CHAT, ShelfKind
from potluck_tui.welcome import welcome
from potluck_tui.widgets.bars import Bar, KeyHints
from potluck_tui.widgets.chat_list import ChatList, ChatPanel, Verb
from potluck_tui.widgets.composer import Composer
from potluck_tui.widgets.prompt import Prompt
from potluck_tui.widgets.transcript import Transcript
from potluck_tui.words import counted

DRAFT_SECONDS = 0.5
"""A draft is written this long after the last key."""

_CHAT_HINTS = hints(EVERYWHERE[:2], CHAT, EVERYWHERE[2:])
"""Help and the way out come first: those at the end give way in a narrow terminal."""


class ChatScreen(MessageActions):
    """The main place. It shows the session and turns keys into what the session does.

    Args:
        session: What is known; whoever changes it calls `show_session` afterwards.
        drafts: What was typed and not sent.
        act: Carries out instructions.
        copy: Copies a text to wherever it can be copied from here.
        home: Where the user puts model files, and where pasted texts are kept.
        ssh: The terminal is at the other end of an ssh connection.
    """

    AUTO_FOCUS = ""
    """The prompt has the focus from the start: not the list, whose cursor would be set by that."""

    BINDINGS: ClassVar[list[BindingType]] = [
        key.binding() for key in CHAT if key.id not in {"chat.model", "chat.nodes", "chat.copy"}
    ]

    def __init__(
        self,
        session: Session,
        drafts: Drafts,
        act: Callable[[list[Instruction]], None],
        copy: Callable[[str], None],
        home: Home,
        *,
        ssh: bool,
    ) -> None:
        super().__init__(session, act, copy)
        self._drafts = drafts
        session.unfinished = drafts.unfinished
        self._home = home
        self._ssh = ssh
        self._escape = DoubleEscape()
        self._escape_armed = False
        self._disarm_timer: Timer | None = None
        self._draft_timer: Timer | None = None
        self._built = False
        self._title = Bar(widget_id="title")
        self._panel = ChatPanel(widget_id="chats")
        self._composer = Composer(home.pasted, widget_id="composer")
        self._prompt = self._composer.prompt
        self._status = Bar(widget_id="status")
        self._hints = KeyHints(_CHAT_HINTS, widget_id="hints")

    def compose(self) -> ComposeResult:
        """Build the places of the screen."""
        yield self._title
        with Horizontal(id="middle"):
            yield self._panel
            with Vertical(id="talk"):
                yield self._transcript
                yield self._composer
        yield self._status
        yield self._hints

    def on_mount(self) -> None:
        """Start with the new chat's draft."""
        self.set_class(self._ssh, "-ssh")
        self._prompt.fill(self._drafts.get(self._conversation.chat_id))
        self._built = True
        self.set_focus(self._prompt)
        self.show_session()

    # --- Showing ---------------------------------------------------------------------------------

    def show_session(self) -> None:
        """Show what the session knows now. Parts that did not change are not drawn."""
        session, conversation = self._session, self._conversation
        if not self._built:
            return
        self._title.show(StatusLine(conversation.chat.title, _counted(session)))
        self._panel.show(session.library, conversation.chat_id)
        introduction = None
        if not conversation.turns and not conversation.loading:
            introduction = welcome(
                session.pool, conversation.chat.model, self._home.models, session.connected
            )
        self._transcript.show(
            conversation.turns,
            conversation.queue,
            chat=conversation.visit,
            introduction=introduction,
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
            case do.LoadDraft(chat_id):
                self._composer.fill(self._drafts.get(chat_id))
            case do.AdoptDraft(chat_id):
                self._drafts.put(NEW_CHAT, "")
                self._drafts.put(chat_id, self._conversation.draft(self._prompt.text))
            case do.SaveDraft():
                self.keep_draft()
            case do.KeepDraft(chat_id, text):
                kept = self._drafts.get(chat_id)
                self._drafts.put(chat_id, f"{text}\n\n{kept}" if kept else text)
            case do.ReturnToPrompt(text):
                typed = self._prompt.text
                self._prompt.fill(f"{text}\n\n{typed}" if typed else text)
            case do.FillPrompt(text, files):
                self._composer.fill(text, files)
                self.set_focus(self._prompt)
            case do.ShowMessage(message_id):
                self.show_session()
                self._transcript.mark(words_of(self._session.library.query))
                self.set_focus(self._transcript)
                self._transcript.show_message(message_id)
            case do.Say(sentence, problem):
                self.notify(sentence, severity="error" if problem else "information", markup=False)

    # --- Typing ----------------------------------------------------------------------------------

    @on(Composer.Sent)
    def send(self, event: Composer.Sent) -> None:
        """Send a question, or queue it."""
        self._transcript.to_end()
        self._act(self._conversation.send(event.question))
        self.keep_draft()

    @on(Prompt.TakeBack)
    def take_back(self) -> None:
        """Put the last waiting prompt back to edit it; without one, recall a sent one."""
        if not self._prompt.text and (text := self._conversation.take_back()):
            self._prompt.fill(text)
            self.show_session()
            return
        self._prompt.earlier.begin(self._session.asked)
        self._prompt.recall_older()

    @on(TextArea.Changed)
    def remember_typing(self) -> None:
        """Keep the draft, and write it a moment after the last key."""
        self._disarm()
        self._put_draft()
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(DRAFT_SECONDS, self.save_drafts)

    def keep_draft(self) -> None:
        """Write now what must not be lost."""
        self._put_draft()
        self.save_drafts()

    def write_draft(self) -> None:
        """Write now what must not be lost. Raises `OSError`."""
        if self._built:
            self._put_draft()
            self._drafts.save()

    def _put_draft(self) -> None:
        self._drafts.put(self._conversation.chat_id, self._conversation.draft(self._prompt.text))

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
        """Go back to the prompt, or leave an edit there; the second Esc stops the answer."""
        if self.focused is not self._prompt:
            self._back_to_prompt()
        elif self._conversation.editing is not None:
            self._act(self._conversation.cancel_edit())
            return
        if self._conversation.under_way:
            self._press_escape()

    def _back_to_prompt(self) -> None:
        self._close_drawer()
        self._session.library.hit_number = -1
        self._transcript.mark(())
        self.set_focus(self._prompt)
        self._show_status()

    def _press_escape(self) -> None:
        if self._escape.press(time.monotonic()):
            self._disarm()
            self._act(self._conversation.stop())
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
        match event.widget:
            case ChatList():
                self._hints.show(hints(CHAT_LIST[-1:], CHAT_LIST[:-1]))
            case Transcript():
                self._hints.show(hints(TRANSCRIPT[-2:], TRANSCRIPT[:-2]))
            case _:
                self._hints.show(_CHAT_HINTS)

    def action_read(self) -> None:
        """Go to the messages."""
        if self._conversation.turns:
            self._transcript.select_last()
            self.set_focus(self._transcript)

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

    # --- Chats -----------------------------------------------------------------------------------

    def action_new_chat(self) -> None:
        """Show an empty chat."""
        self.keep_draft()
        self._close_drawer()
        self._act(self._conversation.new_chat())
        self.set_focus(self._prompt)

    def action_toggle_chats(self) -> None:
        """Go to the list of chats, or back to the prompt."""
        if self._panel.list.has_focus:
            self._close_drawer()
            self.set_focus(self._prompt)
        else:
            self._panel.add_class("-open")
            self.set_focus(self._panel.list)

    def _close_drawer(self) -> None:
        self._panel.remove_class("-open")

    @on(OptionList.OptionSelected, "#chat-list")
    def open_chat(self, event: OptionList.OptionSelected) -> None:
        """Show the chat that was chosen; a deleted one must be taken back first."""
        chat_id = ChatId(event.option_id or "")
        if self._session.library.shelf is ShelfKind.DELETED:
            self.notify(f"This chat is deleted: {press('chats.restore')} takes it back.")
            return
        self.keep_draft()
        self._close_drawer()
        self.set_focus(self._prompt)
        if chat_id != self._conversation.chat_id:
            self._act(self._session.open_chat(chat_id))

    @on(ChatList.Act)
    async def act_on_listed(self, event: ChatList.Act) -> None:
        """Do to a chat of the list what its key says."""
        library, chat_id = self._session.library, event.chat_id
        match event.verb:
            case Verb.RENAME:
                await self._ask_title(chat_id)
            case Verb.PIN:
                self._act([*library.pin(chat_id)])
            case Verb.ARCHIVE:
                self._act([*library.archive(chat_id)])
            case Verb.DELETE:
                self._act([*library.delete(chat_id)])
            case Verb.RESTORE:
                deleted = library.shelf is ShelfKind.DELETED
                self._act([*library.restore(chat_id if deleted else NEW_CHAT)])
            case Verb.EXPORT | Verb.EXPORT_JSON:
                self._act([do.ExportChat(chat_id, Format(event.verb))])

    @on(ChatList.NextShelf)
    def show_next_shelf(self) -> None:
        """Show chats, archived ones, deleted ones in turn."""
        shelves = list(ShelfKind)
        at = shelves.index(self._session.library.shelf) + 1
        self._act([*self._session.library.show(shelves[at % len(shelves)])])

    @on(ChatList.NearTheEnd)
    def read_on(self) -> None:
        """Read the next page of the list."""
        self._act([*self._session.library.read_on()])

    async def action_rename_chat(self) -> None:
        """Ask for another title for this chat."""
        await self._ask_title(self._conversation.chat_id)

    async def _ask_title(self, chat_id: ChatId) -> None:
        library, shown = self._session.library, self._conversation.chat
        chat = shown if chat_id == shown.chat_id else library.chat(chat_id)
        if chat is None or not chat_id:
            self.notify("This chat has no name yet: it gets one with its first prompt.")
            return

        def rename(title: str | None) -> None:
            self._act([*library.rename(chat_id, title or "")])

        await self.app.push_screen(Ask("Title of the chat", chat.title), rename)

    def action_delete_chat(self) -> None:
        """Delete this chat; it can be taken back."""
        if self._conversation.chat_id == NEW_CHAT:
            self.notify("Nothing to delete: this chat is empty.")
        else:
            self._act([*self._session.library.delete(self._conversation.chat_id)])

    def action_restore_chat(self) -> None:
        """Take back the chat that was deleted last."""
        self._act([*self._session.library.restore()])

    async def action_options(self) -> None:
        """Set how this chat is answered."""
        from potluck_tui.screens.options import ChatOptions, OptionsScreen

        session = self._session
        current = ChatOptions(self._conversation.chat.system_prompt, self._conversation.chat.preset)

        def use(chosen: ChatOptions | None) -> None:
            if chosen is not None and chosen != current:
                prompt, preset = chosen.system_prompt, chosen.preset
                self._act(self._conversation.choose(system_prompt=prompt, preset=preset))

        await self.app.push_screen(OptionsScreen(current, session.presets, self._act), use)

    async def action_search(self) -> None:
        """Search all chats."""
        from potluck_tui.screens.search import SearchScreen

        session = self._session

        def show(number: int | None) -> None:
            if number is not None:
                session.library.hit_number = number
                self.keep_draft()
                self._close_drawer()
                self._act(session.show_hit(0))

        await self.app.push_screen(
            SearchScreen(session.library, lambda text: self._act([*session.library.search(text)])),
            show,
        )


def _counted(session: Session) -> str:
    """Return how many chats there are, in words; empty for none."""
    library = session.library
    if not library.chats:
        return ""
    if library.shelf is ShelfKind.CURRENT and not library.has_more:
        return counted(len(library.chats), "chat")
    return f"{len(library.chats)}{'+' if library.has_more else ''} {library.shelf}"
