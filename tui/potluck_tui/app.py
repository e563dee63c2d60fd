"""The app: wires session, link, drafts and screens together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import App
from textual.binding import BindingType
from textual.filter import LineFilter, Monochrome
from textual.message import Message
from textual.screen import Screen

from potluck_proto.home import Home
from potluck_tui import files, markdown_lines, notices, palette
from potluck_tui.ascii_only import AsciiOnly
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.clipboard import copy_aside
from potluck_tui.colourless import Colourless
from potluck_tui.drafts import Drafts
from potluck_tui.events import Event, Noted
from potluck_tui.instructions import Announce, ExportChat, Instruction, PoolInstruction
from potluck_tui.keys import CHAT, EVERYWHERE, LOGS_HELP, PLACES, choose, help_rows, press, twice
from potluck_tui.link import PoolLink
from potluck_tui.log_view import LogKey
from potluck_tui.palette import (
    Entry,
    OpenChat,
    OpenMachine,
    RunAction,
    Target,
    UseModel,
    UseTheme,
    WriteChat,
)
from potluck_tui.pool import NodeView
from potluck_tui.preferences import Preferences, Read
from potluck_tui.rebinding import rebound
from potluck_tui.screens.chat import ChatScreen
from potluck_tui.screens.dialogs import WIDE_CELLS, Details, help_screen
from potluck_tui.screens.live import Live
from potluck_tui.session import Session
from potluck_tui.terminal_profile import ColourSystem, TerminalProfile
from potluck_tui.themes import POTLUCK_DARK, POTLUCK_LIGHT, SIXTEEN_COLOURS
from potluck_tui.widgets.chat_list import ChatList
from potluck_tui.widgets.transcript import Transcript

PREPARE_SECONDS = 1.0
PROBLEM_SECONDS = 10.0
"""How long it stays on the screen what is wrong with the settings."""

POOL_PLACES = ("machines", "models")

_NOT_LISTED = ("prompt.", "rows.", "app.palette", "message.export")
"""Keys that the palette leaves out, by the beginning of their ids: they need no finding, or it has
them in every place.
"""

PASTED_SECONDS = 7 * 24 * 3600.0
"""Long texts that were pasted are kept this long."""

COPY_FILE = "copied.md"
"""The file of the home that holds what was copied last."""


class PotluckApp(App[None]):
    """The terminal of a pool. It may vanish at any moment: answers belong to the scheduler.

    Args:
        client: The connection; the app closes it.
        home: Where drafts are kept and models are put.
        profile: What the terminal can do.
        preferences: What the reader has chosen, and what was wrong with it.
        now_unix_seconds: The clock on the wall.
    """

    CSS_PATH = Path(__file__).with_name("potluck.tcss")
    TITLE = "Potluck"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE_CELLS, "-wide")]  # noqa: RUF012 - as in App
    VERTICAL_BREAKPOINTS = [(0, "-short"), (24, "-tall")]  # noqa: RUF012 - as in App
    BINDINGS: ClassVar[list[BindingType]] = [
        key.binding()
        for key in (*EVERYWHERE, *CHAT)
        if key.id.startswith("app.") or key.id in {"chat.model", "chat.nodes", "chat.copy"}
    ]

    class Arrived(Message):
        """Something happened in the background."""

        def __init__(self, event: Event) -> None:
            super().__init__()
            self.event = event

    def __init__(
        self,
        client: PoolClient,
        home: Home,
        profile: TerminalProfile | None = None,
        now_unix_seconds: Callable[[], float] = time.time,
        preferences: Read | None = None,
    ) -> None:
        super().__init__()
        self._home = home
        self._client = client
        self.session = Session()
        self._link = PoolLink(client, self._post, home.exports, now_unix_seconds)
        self._copying: asyncio.Task[None] | None = None
        self._leaving = False
        self._read = preferences or Read(Preferences())
        self._read_only = self._read.preferences.read_only
        self._profile = profile or TerminalProfile()
        self._ssh = self._profile.ssh
        self._ascii_only = AsciiOnly()
        self._colourless = Colourless()
        self.keymap, self._key_problems = rebound(self._read.preferences.keys)
        self.set_keymap({**self.keymap})
        choose(self.keymap)
        self.session.long_answers.long_seconds = self._read.preferences.notify_after_seconds
        self._chat_screen = ChatScreen(
            self.session,
            Drafts(home.drafts_file),
            self.do,
            self._copy,
            home,
            ssh=self._ssh,
        )
        self.register_theme(POTLUCK_DARK)
        self.register_theme(POTLUCK_LIGHT)
        self.theme = self._first_theme

    def get_default_screen(self) -> Screen[None]:
        """Start at the chat."""
        return self._chat_screen

    @property
    def _first_theme(self) -> str:
        wanted = self._read.preferences.theme
        if self.no_color:
            return SIXTEEN_COLOURS
        if wanted in self.available_themes:
            return wanted
        sixteen = self._profile.colours is ColourSystem.SIXTEEN
        return SIXTEEN_COLOURS if sixteen else POTLUCK_DARK.name

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what rewrites lines on their way to the terminal."""
        filters = super().get_line_filters()
        if self.no_color:
            filters = [each for each in filters if not isinstance(each, Monochrome)]
            filters.append(self._colourless)
        return [*filters, self._ascii_only] if self._profile.ascii else filters

    def on_mount(self) -> None:
        """Start to watch the pool; say what is wrong with the settings."""
        self._link.start()
        # After a pause by a signal the terminal shows nothing of what Textual believes it shows.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        problems = [*self._read.problems, *self._key_problems]
        wanted = self._read.preferences.theme
        if wanted and wanted not in self.available_themes:
            listed = f"the palette ({press('app.palette')}) lists them"
            problems.append(f"There is no theme {wanted!r}; {listed}.")
        if problems:
            # In one note, as only the newest is shown.
            words = "\n".join(problems)
            self.notify(words, severity="warning", markup=False, timeout=PROBLEM_SECONDS)
        self._later = asyncio.create_task(self._prepare())

    async def _prepare(self) -> None:
        """Do, once all is on the screen, what would make it wait now or later."""
        await asyncio.sleep(PREPARE_SECONDS)
        await asyncio.to_thread(markdown_lines.prepare)
        if not self.is_headless:
            # What stands now stays. To look through it again took 50 ms, in which no key is heard.
            gc.freeze()
            gc.enable()
        before = time.time() - PASTED_SECONDS
        await asyncio.to_thread(files.forget_pasted, self._home.pasted, before)

    async def on_unmount(self) -> None:
        """End what runs in the background."""
        choose({})
        self._later.cancel()
        await self._link.close()

    def tell(self, sentence: str) -> None:
        """Show a sentence from the background."""
        self._post(Noted(clean(sentence)))

    def _post(self, event: Event) -> None:
        self.post_message(self.Arrived(event))

    @on(Arrived)
    def take_in(self, message: Arrived) -> None:
        """Let the session take in what happened: the only place where events change it."""
        if not self._leaving:
            self.do(self.session.handle(message.event))

    def do(self, instructions: Sequence[Instruction]) -> None:
        """Carry out what the session asks for, then show what it knows."""
        for instruction in instructions:
            if isinstance(instruction, PoolInstruction):
                self._link.carry_out(instruction)
            elif isinstance(instruction, Announce):
                self._announce(instruction)
            else:
                self._chat_screen.carry_out(instruction)
        self._chat_screen.show_session()
        for screen in self.screen_stack:
            if screen.is_mounted and isinstance(screen, Live):
                screen.show_news(self.session)

    def _announce(self, announce: Announce) -> None:
        """Tell the end of an answer, unless the reader sees it."""
        if self.app_focus and announce.chat_id == self.session.conversation.chat_id:
            return
        title = f": {announce.title}" if announce.title else ""
        words = f"Potluck has answered{title}"
        if announce.chat_id != self.session.conversation.chat_id:
            self.notify(words, markup=False)
        if self._driver is not None and not self.is_headless:
            self._driver.write(notices.sequence(self._profile.notice, words))
            self._driver.flush()

    async def action_palette(self) -> None:
        """Find something to do or to go to."""
        from potluck_tui.screens.palette import Palette

        active = {
            each.binding.id: each
            for each in self.screen.active_bindings.values()
            if each.enabled and each.binding.id
        }
        # What counts in this place alone comes first.
        known = dict.fromkeys(k for t in (*PLACES[self._place], CHAT) for k in t)
        keys = [k for k in known if k.id in active and not k.id.startswith(_NOT_LISTED)]
        entries = [Entry(k.words, RunAction(k.id), k.on(self.keymap).shown) for k in keys]
        entries += palette.places(self.session, self.available_themes)

        async def go(target: Target | None) -> None:
            match target:
                case RunAction(key_id):
                    await self.run_action(active[key_id].binding.action, active[key_id].node)
                case OpenChat(chat_id):
                    self._to_chat()
                    self._chat_screen.keep_draft()
                    self.do(self.session.open_chat(chat_id))
                case WriteChat(kind):
                    self.do([ExportChat(self.session.conversation.chat_id, kind)])
                case OpenMachine(address):
                    if (node := self.session.pool.node(address)) is not None:
                        await self._open("machine", node)
                case UseModel(label):
                    self.do(self.session.conversation.choose(model=label))
                case UseTheme(name):
                    self.theme = name
                    keep = f'To keep it: theme = "{name}" in the table [terminal] of settings.toml.'
                    self.notify(keep, markup=False)

        await self.push_screen(Palette(entries), go)

    def _to_chat(self) -> None:
        """Leave whatever is shown over the chat."""
        while self.screen is not self._chat_screen:
            self.pop_screen()
        self.do(self.session.inspector.close_machine())

    async def action_pick_model(self) -> None:
        """Pick the model of this chat."""
        from potluck_tui.screens.models import ModelPicker, Picked

        session, current = self.session, self.session.current_model

        def use(picked: Picked | None) -> None:
            if picked is None:
                return
            if picked.beside:
                ended = picked.label == session.conversation.chat.beside_model
                self.do(session.conversation.choose(beside_model="" if ended else picked.label))
            else:
                self.do(session.conversation.choose(model=picked.label))

        if self._place != ModelPicker.PLACE:
            label = current.label if current else ""
            await self.push_screen(
                ModelPicker(session.pool, label, session.conversation.chat.beside_model), use
            )

    async def action_show_nodes(self) -> None:
        """Show the machines of the pool."""
        from potluck_tui.screens.nodes import NodesScreen

        screen = NodesScreen(
            self.session, self.do, self._open, read_only=self._read_only, ssh=self._ssh
        )
        await self._show_pool(screen, screen.PLACE)

    async def action_show_models(self) -> None:
        """Show the models of the pool."""
        from potluck_tui.screens.pool_models import PoolModelsScreen

        screen = PoolModelsScreen(
            self.session, self.do, self.action_show_nodes, read_only=self._read_only, ssh=self._ssh
        )
        await self._show_pool(screen, screen.PLACE)

    async def _show_pool(self, screen: Screen[None], place: str) -> None:
        """Show a screen of the pool over the chat, in the place of the other one."""
        if any(getattr(shown, "PLACE", "") == place for shown in self.screen_stack):
            while self._place != place:
                self.pop_screen()
            self.do(self.session.inspector.close_machine())
        elif self._place in POOL_PLACES:
            # Not awaited: it would wait for the screen whose key this is.
            self.switch_screen(screen)
        else:
            await self.push_screen(screen)

    async def _open(self, place: str, node: NodeView | None) -> None:
        """Open what the machines lead to."""
        from potluck_tui.screens.machine import MachineScreen

        match place, node:
            case "machine", NodeView():
                self.do(self.session.inspector.show_machine(node))
                if self._place != MachineScreen.PLACE:
                    read_only = self._read_only
                    await self.push_screen(
                        MachineScreen(self.session, self.do, self.show_log, read_only=read_only)
                    )
            case "logs", NodeView():
                await self.show_log(node)
            case _:
                await self.action_show_models()

    async def show_log(self, node: NodeView) -> None:
        """Show the logs of a machine."""
        from potluck_tui.screens.logs import LogsScreen

        self.do(self.session.inspector.show_log(LogKey(node.address), node.name))
        await self.push_screen(LogsScreen(self.session.inspector, self.do))

    async def action_invite(self) -> None:
        """Invite a machine into this pool."""
        from potluck_tui.screens.pairing import InviteScreen

        await self.push_screen(InviteScreen(self._client))

    async def action_join(self) -> None:
        """Have this machine join a pool."""
        from potluck_tui.screens.pairing import JoinScreen

        await self.push_screen(JoinScreen(self._home))

    async def action_help(self) -> None:
        """Show the keys of this place."""
        if isinstance(self.screen, Details):
            return
        place = self._place
        rows = help_rows(place, self.keymap)
        if place == "logs":
            rows += LOGS_HELP
        await self.push_screen(help_screen(place, rows, self.size.width))

    def action_help_quit(self) -> None:
        """Say how to leave: ctrl+c has something else to do here, and there it would be missed."""
        leave, stop = press("app.quit"), twice("chat.escape")
        self.notify(f"{leave} leaves; answers go on. {stop} stops an answer.", markup=False)

    @property
    def _place(self) -> str:
        """Where the reader is, as `keys.PLACES` calls it."""
        match self.focused:
            case Transcript():
                return "messages"
            case ChatList():
                return "list of chats"
        return getattr(self.screen, "PLACE", "chat")

    def action_copy_answer(self) -> None:
        """Copy the last answer to wherever it can be copied from here."""
        text = self.session.conversation.last_answer
        if text:
            self._copy(text)
        else:
            self.notify("There is no answer to copy yet.")

    def _copy(self, text: str) -> None:
        self.copy_to_clipboard(text)
        self._copying = asyncio.create_task(self._copy_aside(text))

    async def _copy_aside(self, text: str) -> None:
        file = self._home.root / COPY_FILE
        places = await copy_aside(text, file, os.environ)
        where = ", ".join(["the terminal's clipboard (if it allows that)", *places])
        self.notify(f"Copied {len(text)} characters to {where}.", markup=False)

    def save_draft(self) -> None:
        """Write what was typed, without a word where that fails: nobody is there to read it."""
        with contextlib.suppress(OSError):
            self._chat_screen.write_draft()

    def action_put_aside(self) -> None:
        """Go to the shell until its `fg`."""
        from potluck_tui import job

        if job.shell_waits():
            self._chat_screen.keep_draft()
            # The terminal first: once the shell goes on, this is a background job, which may not.
            with self.suspend():
                job.put_aside()
        else:
            self.notify("This window has no shell to go to.")

    def action_leave(self) -> None:
        """Leave; the draft is saved, and answers go on."""
        self._chat_screen.keep_draft()
        self._leaving = True
        answering = self.session.conversation.under_way
        self.exit(message="The answer goes on; `potluck` shows it." if answering else None)
