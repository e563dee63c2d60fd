"""Inviting a machine into the pool, and joining one, over the table of machines."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
from potluck_proto.identity import Role
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui import joining
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.keys import INVITE, JOIN, hints
from potluck_tui.widgets.bars import KeyHints
from potluck_tui.widgets.line import Line

OFFER = """\
As what may one machine join this pool?

  worker: it runs models for this pool
  client: it chats with this pool"""


class _Waiting(ModalScreen[None]):
    """A place where something takes a while and then has words."""

    class Said(Message):
        """What came of it."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def wait_for(self, work: Awaitable[str], meanwhile: str) -> None:
        """Do something in the background, and show what it returns, or why it failed."""
        self.query_one("#words", Static).update(meanwhile)
        self.run_worker(self._wait(work), exclusive=True)

    async def _wait(self, work: Awaitable[str]) -> None:
        try:
            words = await work
        except PotluckError as error:
            words = error.message
        self.post_message(self.Said(clean(words)))

    @on(Said)
    def show_words(self, message: Said) -> None:
        """Show what came of it."""
        self.query_one("#words", Static).update(message.words)


class InviteScreen(_Waiting):
    """Makes an invitation; its line is shown until the screen is closed, and kept nowhere.

    Args:
        client: The pool that invites.
    """

    PLACE = "invitation"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in INVITE]

    def __init__(self, client: PoolClient) -> None:
        super().__init__()
        self._client = client
        self._line = ""

    def compose(self) -> ComposeResult:
        """Build the offer."""
        with Vertical(classes="dialog -wide-dialog"):
            yield Static("Invite a machine", classes="title", markup=False)
            yield Static(OFFER, id="words", markup=False)
            yield KeyHints(hints(INVITE), widget_id="hints")

    def action_invite(self, role: str) -> None:
        """Make an invitation for a role."""
        self._line = ""
        self.wait_for(self._invite(Role(role)), "...")

    def action_copy(self) -> None:
        """Copy the line to the clipboard of the terminal, and to no file."""
        if self._line:
            self.app.copy_to_clipboard(self._line)
            self.notify("Copied to the terminal's clipboard, if it allows that.")

    async def _invite(self, role: Role) -> str:
        request = pb.CreateInviteRequest(role=role)
        response = await self._client.call(self._client.stub.CreateInvite, request)
        self._line = response.line
        return (
            f"Run `potluck join` on the {role} and give it this line, once, within "
            f"{response.valid_seconds / 60:.0f} minutes.\nIt is a password: carry it as one.\n\n"
            f"{response.line}"
        )


class JoinScreen(_Waiting):
    """Takes the line of an invitation, which is not shown, and joins with it.

    Args:
        home: This machine's.
    """

    PLACE = "joining"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in JOIN]

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home

    def compose(self) -> ComposeResult:
        """Build the question and its line."""
        with Vertical(classes="dialog -wide-dialog"):
            yield Static("Join another pool", classes="title", markup=False)
            yield Static("The line of `potluck invite`:", id="words", markup=False)
            yield Line(password=True)
            yield KeyHints([("enter", "join"), *hints(JOIN)], widget_id="hints")

    def on_mount(self) -> None:
        """Begin to type."""
        self.set_focus(self.query_one(Input))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Join with the line."""
        line, event.input.value = event.value, ""
        self.wait_for(self._join(line), "Joining...")

    async def _join(self, line: str) -> str:
        return (await joining.follow(line, self._home)).words
