"""The chat that is shown: its messages, its answers under way, and the prompts that wait.

A *visit* is one stay in one chat. What comes back for an earlier visit changes nothing on the
screen; only a prompt that was not taken is put into the draft of its chat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_tui import answers, events
from potluck_tui import instructions as do
from potluck_tui.answers import AnswerEvent
from potluck_tui.instructions import Instruction
from potluck_tui.preset import Preset
from potluck_tui.views import (
    NEW_CHAT,
    NO_MESSAGE,
    ChatSummary,
    Ending,
    EndKind,
    Question,
    Speaker,
    Turn,
    one_line,
)

PENDING = MessageId("pending")
"""Stands for the id of a prompt that the scheduler has not confirmed yet."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A question that is being written anew, as another branch."""

    turn: Turn
    set_aside: str
    """What was in the prompt before."""


class Conversation:
    """What a reader sees of one chat and does in it; `Session` has what is around it."""

    def __init__(self) -> None:
        self.chat = ChatSummary(NEW_CHAT, "New chat")
        """The chat, with the options that are chosen for it."""
        self.turns: tuple[Turn, ...] = ()
        """Its messages that are shown, oldest first."""
        self.queue: tuple[Question, ...] = ()
        """Prompts that wait for the answer under way, or for the scheduler."""
        self.editing: Edit | None = None
        self.loading = False
        """The chat's messages have been asked for."""
        self.visit = 0
        """Counts the stays in a chat."""
        self.cut_off = False
        """The scheduler is away, so prompts wait."""
        self._changing = False
        """Another branch, or more of an answer, was asked for."""
        self._goal = NO_MESSAGE
        """The message to scroll to when the chat is there."""

    # --- What the screen asks --------------------------------------------------------------------

    @property
    def chat_id(self) -> ChatId:
        """The id of the chat that is shown."""
        return self.chat.chat_id

    @property
    def under_way(self) -> tuple[Turn, ...]:
        """The answers under way that are shown: none, one, or two side by side."""
        return tuple(turn for turn in self.turns[-2:] if turn.under_way)

    @property
    def busy(self) -> bool:
        """Say whether a prompt would have to wait."""
        return self.cut_off or bool(self.under_way) or self._pending or self._changing

    @property
    def last_answer(self) -> str:
        """The text of the newest answer on the branch that has any."""
        return next(
            (
                t.text
                for t in reversed(self.turns)
                if t.speaker is Speaker.MODEL and t.shown and t.text
            ),
            "",
        )

    def turn(self, message_id: MessageId) -> Turn | None:
        """Return a turn of the chat that is shown."""
        return next((turn for turn in self.turns if turn.message_id == message_id), None)

    def draft(self, typed: str) -> str:
        """Return what must not be lost if the terminal goes away now.

        That is a prompt that is not confirmed yet, those that wait, and what is being typed.

        Args:
            typed: What is in the prompt.
        """
        sent = self.turns[-1].text if self._pending else ""
        aside = self.editing.set_aside if self.editing else ""
        return _together([sent, *(question.text for question in self.queue), aside, typed])

    # --- Asking ----------------------------------------------------------------------------------

    def send(self, question: Question) -> list[Instruction]:
        """Send a question, or let it wait."""
        question = replace(question, text=question.text.strip())
        if question.empty:
            return []
        if self.editing is not None:
            return self._send_edited(self.editing, question)
        if self.busy:
            self.queue = (*self.queue, question)
            return []
        self._add_pending(question)
        return [do.Submit(self.visit, self.chat, question)]

    def _send_edited(self, edit: Edit, question: Question) -> list[Instruction]:
        """Send a question anew, in the place of the one that was edited."""
        if self._pending or self._changing:
            return [
                do.FillPrompt(question.text, question.files),
                do.Say("Wait for the change under way."),
            ]
        self.turns = self.turns[: self.turns.index(edit.turn)] if edit.turn in self.turns else ()
        self._add_pending(question)
        back = [do.FillPrompt(edit.set_aside)] if edit.set_aside else []
        return [*back, do.Submit(self.visit, self.chat, question, edit.turn.parent_id)]

    def _add_pending(self, question: Question) -> None:
        self.turns = (*self.turns, Turn(PENDING, Speaker.USER, question.text, files=question.files))

    def take_back(self) -> str:
        """Return the prompt that was queued last, and wait for it no more."""
        if not self.queue:
            return ""
        *rest, last = self.queue
        self.queue = tuple(rest)
        return last.text

    def edit(self, message_id: MessageId, typed: str) -> list[Instruction]:
        """Begin to write a question anew.

        Args:
            message_id: The question.
            typed: What is in the prompt; it comes back afterwards.
        """
        turn = self.turn(message_id)
        if turn is None or turn.speaker is not Speaker.USER or message_id == PENDING:
            return []
        self.editing = Edit(turn, self.editing.set_aside if self.editing else typed)
        return [do.FillPrompt(turn.text, turn.files)]

    def cancel_edit(self) -> list[Instruction]:
        """Leave the question as it is."""
        edit, self.editing = self.editing, None
        return [do.FillPrompt(edit.set_aside)] if edit else []

    def stop(self) -> list[Instruction]:
        """End the answers under way."""
        return [do.StopAnswer(turn.generation_id) for turn in self.under_way]

    def regenerate(
        self, message_id: MessageId, model: str = "", node: str = "", *, beside: bool = False
    ) -> list[Instruction]:
        """Have a question answered again, by the chat's model on any node unless others are named.

        Args:
            message_id: The question or one of its answers.
            model: By its label.
            node: By its name.
            beside: The new answer stands beside this one, and the chat goes on from this one.
        """
        turn = self.turn(message_id)
        if turn is None or self._pending or self._changing:
            return []
        self._changing = True
        return [do.Regenerate(self.chat_id, message_id, model, node, beside)]

    def continue_answer(self, message_id: MessageId) -> list[Instruction]:
        """Have a cut answer go on."""
        turn = self.turn(message_id)
        if turn is None or turn.ending is None or self._pending or self._changing:
            return []
        if not turn.ending.can_go_on:
            return [do.Say("This answer is complete.")]
        self._changing = True
        return [do.ContinueAnswer(self.chat_id, message_id)]

    def switch(self, message_id: MessageId, step: int) -> list[Instruction]:
        """Show the branch through the sibling of a message so many places on."""
        turn = self.turn(message_id)
        wanted = turn.neighbour(step) if turn is not None else None
        return [] if wanted is None else self._select(wanted)

    def take(self, message_id: MessageId) -> list[Instruction]:
        """Have the chat go on from this one of the answers that stand side by side."""
        turn = self.turn(message_id)
        return [] if turn is None or turn.shown else self._select(message_id)

    def _select(self, message_id: MessageId) -> list[Instruction]:
        if self._pending or self._changing:
            return []
        self._changing = True
        return [do.SelectBranch(self.chat_id, message_id)]

    # --- Which chat ------------------------------------------------------------------------------

    def new_chat(self) -> list[Instruction]:
        """Show an empty chat; the model stays."""
        self._leave(ChatSummary(NEW_CHAT, "New chat", model=self.chat.model))
        return [do.Follow(), do.LoadDraft(NEW_CHAT)]

    def open(self, chat: ChatSummary, goal: MessageId) -> list[Instruction]:
        """Show a chat, at its end or at a message."""
        if chat.chat_id == self.chat_id:
            self._goal = goal
            return self._go_to_goal()
        self._leave(chat)
        self.loading = True
        self._goal = goal
        return [do.Follow(), do.LoadDraft(chat.chat_id), do.FetchChat(chat.chat_id)]

    def choose(
        self,
        *,
        model: str | None = None,
        beside_model: str | None = None,
        system_prompt: str | None = None,
        preset: Preset | None = None,
    ) -> list[Instruction]:
        """Change how this chat is answered, from the next prompt on; `None` leaves as it is."""
        given: dict[str, Any] = {
            "model": model,
            "beside_model": beside_model,
            "system_prompt": system_prompt,
            "preset": preset,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        self.chat = replace(self.chat, **changes)
        return [do.UpdateChat(self.chat_id, **changes)] if self.chat_id else []

    # --- What happens ----------------------------------------------------------------------------

    def look_again(self) -> list[Instruction]:
        """Send what waited for the scheduler, or see what another viewer changed in this chat."""
        was_cut_off, self.cut_off = self.cut_off, False
        if self._pending:
            return []
        if was_cut_off and self.queue and not (self.busy or self.loading):
            return self._next_in_queue()
        known = 0 if self.loading else self.chat.revision
        return [do.FetchChat(self.chat_id, known)] if self.chat_id else []

    def seen(self, event: events.ChatSeen) -> list[Instruction]:
        """Show the messages of the chat as they are now."""
        if event.chat.chat_id != self.chat_id or self._pending:
            return []
        was_changing, self._changing, self.loading = self._changing, False, False
        self.chat = event.chat
        known = {turn.message_id: turn for turn in self.turns}
        self.turns = tuple(answers.newest(known.get(turn.message_id), turn) for turn in event.turns)
        follow = do.Follow(tuple((turn.generation_id, len(turn.text)) for turn in self.under_way))
        waiting = [] if self.busy else self._next_in_queue()
        return [follow, *self._go_to_goal(may_select=not was_changing), *waiting]

    def not_changed(self, chat_id: ChatId) -> None:
        """Note that a branch that was asked for is not there."""
        if chat_id == self.chat_id:
            self._changing, self._goal = False, NO_MESSAGE

    def submitted(self, event: events.Submitted) -> list[Instruction]:
        """Show a question that was taken, and follow its answer; it is of this visit."""
        instructions: list[Instruction] = []
        if self.chat_id == NEW_CHAT:
            title = one_line(event.question.text.partition("\n")[0]) or "New chat"
            self.chat = replace(self.chat, chat_id=event.chat_id, title=title, revision=0)
            instructions.append(do.AdoptDraft(event.chat_id))
        edit, self.editing = self.editing, None
        siblings = edit.turn.siblings if edit is not None else ()
        parent_id = edit.turn.parent_id if edit is not None else self._last_shown
        self.turns = (
            *self.turns[:-1],
            Turn(
                event.user_message_id,
                Speaker.USER,
                event.question.text,
                parent_id=parent_id,
                siblings=(*siblings, event.user_message_id),
                files=event.question.files,
            ),
            Turn(
                event.answer_message_id,
                Speaker.MODEL,
                "",
                event.generation_id,
                parent_id=event.user_message_id,
                siblings=(event.answer_message_id,),
            ),
        )
        instructions.append(do.SaveDraft())
        alone = event.revision == self.chat.revision + 1 and not self.chat.beside_model
        if alone:
            self.chat = replace(self.chat, revision=event.revision)
        else:
            # There is a second answer, or another viewer changed the chat meanwhile.
            instructions.append(do.FetchChat(event.chat_id))
        return [*instructions, do.Follow(((event.generation_id, 0),))]

    def submit_failed(self, event: events.SubmitFailed) -> list[Instruction]:
        """Give a question back, or keep it until the scheduler is there again."""
        said = do.Say(event.sentence, problem=True)
        if event.visit != self.visit:
            return [do.KeepDraft(event.chat_id, event.question.text), said]
        self.turns = self.turns[:-1]
        if event.unreachable and self.editing is None:
            # Perhaps it was taken and only the response was lost; it is stored once all the same.
            self.cut_off, self.queue = True, (event.question, *self.queue)
            return []
        waiting, self.queue = self.queue, ()
        text = _together([event.question.text, *(question.text for question in waiting)])
        if self.editing is None:
            return [do.ReturnToPrompt(text), said]
        # The turns after the question are still those of the branch that is stored.
        return [do.FillPrompt(text, event.question.files), said, do.FetchChat(self.chat_id)]

    def follow_failed(self, event: events.FollowFailed) -> list[Instruction]:
        """End an answer that cannot be followed, or look at it anew."""
        if not event.reload:
            failed = Ending(EndKind.FAILED, event.sentence)
            return self.change(events.AnswerEnded(event.generation_id, failed))
        self._replace(event.generation_id, lambda turn: replace(turn, text=""))
        return [do.FetchChat(self.chat_id)]

    def change(self, event: AnswerEvent) -> list[Instruction]:
        """Let something happen to an answer under way, if it is shown."""
        self._replace(event.generation_id, lambda turn: answers.after(turn, event))
        ended = isinstance(event, events.AnswerEnded) and not self.busy
        return self._all_ended() if ended else []

    def _replace(self, generation_id: GenerationId, change: Callable[[Turn], Turn]) -> None:
        self.turns = (
            *self.turns[:-2],
            *(
                change(turn) if turn.under_way and turn.generation_id == generation_id else turn
                for turn in self.turns[-2:]
            ),
        )

    def _all_ended(self) -> list[Instruction]:
        """Send the next prompt that waits, or give all back where the answer is not as it was."""
        shown = next((turn for turn in reversed(self.turns) if turn.shown), None)
        kind = shown.ending.kind if shown and shown.ending else EndKind.COMPLETE
        if kind not in {EndKind.FAILED, EndKind.STOPPED}:
            return self._next_in_queue()
        waiting, self.queue = self.queue, ()
        return (
            [do.ReturnToPrompt(_together(question.text for question in waiting))] if waiting else []
        )

    def _next_in_queue(self) -> list[Instruction]:
        if not self.queue:
            return []
        first, *rest = self.queue
        self.queue = tuple(rest)
        self._add_pending(first)
        return [do.Submit(self.visit, self.chat, first)]

    def _go_to_goal(self, *, may_select: bool = True) -> list[Instruction]:
        """Scroll to the message that somebody wants to see, or show its branch first."""
        if not self._goal or self.loading or self._changing:
            return []
        if self.turn(self._goal) is None and may_select:
            self._changing = True
            return [do.SelectBranch(self.chat_id, self._goal)]
        goal, self._goal = self._goal, NO_MESSAGE
        return [do.ShowMessage(goal)]

    @property
    def _last_shown(self) -> MessageId:
        return next(
            (t.message_id for t in reversed(self.turns) if t.shown and t.message_id != PENDING),
            NO_MESSAGE,
        )

    @property
    def _pending(self) -> bool:
        return bool(self.turns) and self.turns[-1].message_id == PENDING

    def _leave(self, chat: ChatSummary) -> None:
        self.visit += 1
        self.chat = chat
        self.turns = ()
        self.queue = ()
        self.editing = None
        self.loading = self._changing = False
        self._goal = NO_MESSAGE


def _together(texts: Iterable[str]) -> str:
    """Return texts as one, with a blank line between each two."""
    return "\n\n".join(text for text in texts if text)
