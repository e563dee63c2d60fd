"""What the keys do to the message that is selected in the transcript."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.screen import Screen

from potluck_tui import instructions as do
from potluck_tui import pieces
from potluck_tui.export import Format
from potluck_tui.instructions import Instruction
from potluck_tui.keys import press
from potluck_tui.screens.dialogs import Choose
from potluck_tui.session import Session
from potluck_tui.views import Speaker, Turn
from potluck_tui.widgets.prompt import Prompt
from potluck_tui.widgets.transcript import Transcript


class MessageActions(Screen[None]):
    """The half of the chat's screen that acts on one message.

    Args:
        session: What is known.
        act: Carries out instructions.
        copy: Copies a text to wherever it can be copied from here.
    """

    def __init__(
        self,
        session: Session,
        act: Callable[[list[Instruction]], None],
        copy: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._session = session
        self._conversation = session.conversation
        self._act = act
        self._copy = copy
        self._transcript = Transcript(widget_id="transcript")

    @property
    def _selected(self) -> Turn | None:
        return self._transcript.selected_turn

    @property
    def _selected_answer(self) -> Turn | None:
        """The answer that is selected; at a question, the one that is shown below it."""
        turn = self._selected
        if turn is None or turn.speaker is Speaker.MODEL:
            return turn
        answers = (
            t for t in self._conversation.turns if t.parent_id == turn.message_id and t.shown
        )
        return next(answers, None)

    def _on_answer(self, work: Callable[[Turn], list[Instruction]]) -> None:
        """Do something to the selected answer, or say that there is none."""
        if (turn := self._selected_answer) is not None:
            self._act(work(turn))
        else:
            self.notify("There is no answer here yet.")

    def action_switch_branch(self, step: int) -> None:
        """Show the branch to the left or right of the message."""
        if (turn := self._selected) is None:
            return
        wanted = turn.neighbour(step)
        if wanted is None:
            self.notify("There is no other branch here." if not turn.place else "This is the last.")
            return
        self._transcript.await_in_its_place(wanted)
        self._act(self._conversation.switch(turn.message_id, step))

    def action_take_answer(self) -> None:
        """Have the chat go on from this one of the answers that stand side by side."""
        self._on_answer(lambda turn: self._conversation.take(turn.message_id))

    def action_edit_message(self) -> None:
        """Write the question anew; at an answer, its question."""
        turn = self._selected
        if turn is not None and turn.speaker is Speaker.MODEL:
            turn = self._conversation.turn(turn.parent_id)
        if turn is not None:
            typed = self.query_one(Prompt).text
            self._act(self._conversation.edit(turn.message_id, typed))

    def action_regenerate(self) -> None:
        """Have the question answered again."""
        if (turn := self._selected) is not None:
            self._transcript.to_end()
            self._act(self._conversation.regenerate(turn.message_id))

    async def action_regenerate_by(self) -> None:
        """Have the question answered again by a model, or on a machine, of choice."""
        await self._choose_answerer("Who answers again?", beside=False)

    async def action_answer_beside(self) -> None:
        """Have another model's answer beside this one."""
        await self._choose_answerer("Who answers as well?", beside=True)

    async def _choose_answerer(self, question: str, *, beside: bool) -> None:
        turn = self._selected_answer if beside else self._selected
        if turn is None:
            self.notify("There is no answer here yet.")
            return
        answerers = self._session.pool.answerers
        rows = [f"{model} on {node}" if node else model for model, node in answerers]

        def ask(number: int | None) -> None:
            if number is not None:
                model, node = answerers[number]
                again = self._conversation.regenerate(turn.message_id, model, node, beside=beside)
                self._act(again)

        if rows:
            await self.app.push_screen(Choose(question, rows), ask)
        else:
            self.notify("No model can answer now.")

    def action_continue_answer(self) -> None:
        """Have a cut answer go on."""
        self._on_answer(lambda turn: self._conversation.continue_answer(turn.message_id))

    def action_export_chat(self, kind: str) -> None:
        """Write the chat to a file."""
        chat_id = self._conversation.chat_id
        self._act([do.ExportChat(chat_id, Format(kind))] if chat_id else [])

    def action_show_hit(self, step: int) -> None:
        """Go to the next hit of the search, or to the one before."""
        if self._session.library.hits:
            self._act(self._session.show_hit(step))
        else:
            self.notify(f"Nothing is searched for: {press('chat.search')} does.")

    def action_copy_message(self) -> None:
        """Copy the whole message."""
        if (turn := self._selected) is not None and turn.text:
            self._copy(turn.text)

    async def action_copy_code(self) -> None:
        """Copy a code block, the one that is meant where there are several."""
        if (turn := self._selected) is not None:
            blocks = pieces.code_blocks(turn.text)
            await self._copy_one("Which code block?", "There is no code block here.", blocks)

    async def action_copy_link(self) -> None:
        """Copy the address of a link."""
        if (turn := self._selected) is not None:
            await self._copy_one("Which link?", "There is no link here.", pieces.links(turn.text))

    async def _copy_one(self, question: str, none: str, texts: Sequence[str]) -> None:
        def copy(number: int | None) -> None:
            if number is not None:
                self._copy(texts[number])

        if not texts:
            self.notify(none)
        elif len(texts) == 1:
            self._copy(texts[0])
        else:
            rows = [text.strip().partition("\n")[0] for text in texts]
            await self.app.push_screen(Choose(question, rows), copy)
