"""What the terminal knows and decides, without a terminal.

The session eats events, answers what the reader does, and returns instructions; it does no I/O and
knows no widget. All of it can be thrown away at any moment: the scheduler owns chats and answers.

A *visit* is one stay in one chat. What comes back for an earlier visit changes nothing on the
screen; only a prompt that was not taken is put into the draft of its chat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_tui.events import (
    AdoptDraft,
    AnswerEnded,
    AnswerMoved,
    AnswerPlaced,
    AnswerProgress,
    AnswerText,
    ChatDeleted,
    ChatGone,
    ChatSeen,
    ChatsSeen,
    ConnectionLost,
    DeleteChat,
    Event,
    FetchChat,
    Follow,
    FollowFailed,
    FollowLog,
    Instruction,
    KeepDraft,
    ListChats,
    LoadDraft,
    LogFailed,
    LogGrew,
    LogOpened,
    PoolSeen,
    RequestFailed,
    ReturnToPrompt,
    Say,
    StopAnswer,
    Submit,
    SubmitFailed,
    Submitted,
    Unfollow,
    UnfollowLog,
    UpdateChat,
)
from potluck_tui.log_view import LogKey, LogView
from potluck_tui.pool import ModelView, PoolView
from potluck_tui.views import ChatSummary, Ending, EndKind, Speaker, Turn

NEW_CHAT = ChatId("")
"""The chat that does not exist before its first prompt."""

RECENT_SECONDS = 6 * 3600.0
"""A chat touched within this time is what somebody who opens the terminal wants to see again."""

PENDING = MessageId("pending")
"""Stands for the id of a prompt that the scheduler has not confirmed yet."""


class Session:
    """The chats, the chat that is shown, its answer under way, and the prompts that wait."""

    def __init__(self) -> None:
        self.connected: bool | None = None
        """Whether the scheduler answers; `None` before it is known."""
        self.pool = PoolView()
        self.chats: tuple[ChatSummary, ...] = ()
        self.chat_id = NEW_CHAT
        self.model = ""
        """The model chosen for this chat; empty means the pool's default."""
        self.turns: tuple[Turn, ...] = ()
        self.queue: tuple[str, ...] = ()
        """Prompts that wait for the answer under way."""
        self.loading = False
        """The chat's messages have been asked for."""
        self.visit = 0
        """Counts the stays in a chat."""
        self.log: LogView | None = None
        """The log that is shown over the chat."""
        self._started = False
        self._revision = -1

    # --- What the screen asks --------------------------------------------------------------------

    @property
    def title(self) -> str:
        """The shown chat's title."""
        chat = self.chat(self.chat_id)
        return chat.title if chat else "New chat"

    @property
    def answer(self) -> Turn | None:
        """The answer under way in the shown chat."""
        return self.turns[-1] if self.turns and self.turns[-1].under_way else None

    @property
    def busy(self) -> bool:
        """Say whether a prompt would have to wait."""
        return self.answer is not None or self._pending

    @property
    def current_model(self) -> ModelView | None:
        """The model that would answer now, where the pool has it."""
        return self.pool.model(self.model)

    @property
    def last_answer(self) -> str:
        """The text of the newest answer that has any."""
        return next(
            (t.text for t in reversed(self.turns) if t.speaker is Speaker.MODEL and t.text), ""
        )

    def chat(self, chat_id: ChatId) -> ChatSummary | None:
        """Return a chat of the list."""
        return next((chat for chat in self.chats if chat.chat_id == chat_id), None)

    def draft(self, typed: str) -> str:
        """Return what must not be lost if the terminal goes away now: waiting prompts, then typing.

        Args:
            typed: What is in the prompt.
        """
        return "\n\n".join([*self.queue, typed] if typed else self.queue)

    # --- What the reader does --------------------------------------------------------------------

    def send(self, text: str) -> list[Instruction]:
        """Send a prompt, or let it wait for the answer under way."""
        text = text.strip()
        if not text:
            return []
        if self.busy:
            self.queue = (*self.queue, text)
            return []
        self.turns = (*self.turns, Turn(PENDING, Speaker.USER, text))
        return [Submit(self.visit, self.chat_id, text, self.model)]

    def take_back(self) -> str:
        """Return the prompt that was queued last, and wait for it no more."""
        if not self.queue:
            return ""
        *rest, last = self.queue
        self.queue = tuple(rest)
        return last

    def stop(self) -> list[Instruction]:
        """End the answer under way."""
        return [StopAnswer(self.answer.generation_id)] if self.answer else []

    def new_chat(self) -> list[Instruction]:
        """Show an empty chat; the model stays."""
        self._leave(NEW_CHAT)
        return [Unfollow(), LoadDraft(NEW_CHAT)]

    def open_chat(self, chat_id: ChatId) -> list[Instruction]:
        """Show a chat."""
        if chat_id == NEW_CHAT:
            return self.new_chat()
        if chat_id == self.chat_id:
            return []
        self._leave(chat_id)
        self.loading = True
        chat = self.chat(chat_id)
        self.model = chat.model if chat else ""
        return [Unfollow(), LoadDraft(chat_id), FetchChat(chat_id)]

    def choose_model(self, label: str) -> list[Instruction]:
        """Use a model for this chat from the next prompt on."""
        self.model = label
        return [UpdateChat(self.chat_id, model=label)] if self.chat_id else []

    def rename(self, chat_id: ChatId, title: str) -> list[Instruction]:
        """Give a chat another title."""
        title = " ".join(title.split())
        return [UpdateChat(chat_id, title=title)] if title and chat_id else []

    def delete(self, chat_id: ChatId) -> list[Instruction]:
        """Delete a chat for good."""
        return [DeleteChat(chat_id)] if chat_id else []

    def show_log(self, key: LogKey, node_name: str) -> list[Instruction]:
        """Show a log of a machine, in the place of the one that is shown."""
        shown = self.log
        models = shown.models if shown and shown.key.address == key.address else ()
        self.log = LogView(key, node_name, models)
        return [FollowLog(key)]

    def next_log(self, steps: int) -> list[Instruction]:
        """Show the log some steps further of the same machine."""
        if self.log is None or len(self.log.names) == 1:
            return []
        return self.show_log(self.log.beside(steps), self.log.node_name)

    def close_log(self) -> list[Instruction]:
        """Show no log."""
        self.log = None
        return [UnfollowLog()]

    # --- What happens ----------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Instruction]:  # noqa: PLR0911, PLR0912 - a table
        """Take in what happened; return what to do about it."""
        match event:
            case PoolSeen():
                return self._pool_seen(event)
            case ConnectionLost():
                self.connected = False
                return []
            case ChatsSeen():
                return self._chats_seen(event)
            case ChatSeen():
                return self._chat_seen(event)
            case ChatGone():
                return self._chat_gone(event)
            case Submitted():
                return self._submitted(event)
            case SubmitFailed():
                return self._submit_failed(event)
            case AnswerPlaced():
                return self._answer_placed(event)
            case AnswerProgress(generation_id, words):
                return self._change(generation_id, lambda turn: replace(turn, progress=words))
            case AnswerText(generation_id, text):
                return self._change(
                    generation_id, lambda turn: replace(turn, text=turn.text + text, progress="")
                )
            case AnswerMoved(generation_id, move):
                return self._change(
                    generation_id, lambda turn: replace(turn, moves=(*turn.moves, move))
                )
            case AnswerEnded(generation_id, ending):
                return self._answer_ended(generation_id, ending)
            case FollowFailed():
                return self._follow_failed(event)
            case ChatDeleted(chat_id):
                gone = self.new_chat() if chat_id == self.chat_id else []
                return [*gone, ListChats(), Say("The chat is deleted.")]
            case LogOpened() | LogGrew() | LogFailed():
                return self._log_event(event)
            case RequestFailed(sentence):
                return [Say(sentence, problem=True)]
            case _:
                assert_never(event)

    def _pool_seen(self, event: PoolSeen) -> list[Instruction]:
        was_connected, self.connected = self.connected, True
        self.pool = event.pool
        instructions: list[Instruction] = []
        if not was_connected or event.pool.chats_revision != self._revision:
            self._revision = event.pool.chats_revision
            instructions.append(ListChats())
        if self.chat_id and not self._pending:
            # Another viewer asks in the chat that is shown here, or the chat could not be read.
            active = event.pool.active.get(self.chat_id)
            unknown = active is not None and all(t.generation_id != active for t in self.turns)
            if unknown or (self.loading and not was_connected):
                instructions.append(FetchChat(self.chat_id))
        return instructions

    def _chats_seen(self, event: ChatsSeen) -> list[Instruction]:
        self.chats = event.chats
        if self._started:
            return []
        self._started = True
        newest = max(event.chats, key=lambda chat: chat.updated_unix_seconds, default=None)
        wanted = next((chat for chat in event.chats if chat.active), newest)
        if wanted is None or self.turns or self.chat_id:
            return []
        recent = event.now_unix_seconds - wanted.updated_unix_seconds < RECENT_SECONDS
        return self.open_chat(wanted.chat_id) if wanted.active or recent else []

    def _chat_seen(self, event: ChatSeen) -> list[Instruction]:
        if event.chat.chat_id != self.chat_id or self._pending:
            return []
        self.loading = False
        self.turns = event.turns
        self.model = event.chat.model
        if self.answer:
            return [Follow(self.answer.generation_id, len(self.answer.text))]
        return [Unfollow(), *self._next_in_queue()]

    def _chat_gone(self, event: ChatGone) -> list[Instruction]:
        said: list[Instruction] = [Say(event.sentence, problem=True)]
        if event.chat_id != self.chat_id or not event.deleted:
            return said
        return [*said, *self.new_chat(), ListChats()]

    def _submitted(self, event: Submitted) -> list[Instruction]:
        if event.visit != self.visit:
            return [ListChats()]
        started = [AdoptDraft(event.chat_id)] if self.chat_id == NEW_CHAT else []
        self.chat_id = event.chat_id
        self.turns = (
            *self.turns[:-1],
            Turn(event.user_message_id, Speaker.USER, event.text),
            Turn(event.answer_message_id, Speaker.MODEL, "", event.generation_id),
        )
        return [*started, Follow(event.generation_id, 0), ListChats()]

    def _submit_failed(self, event: SubmitFailed) -> list[Instruction]:
        said = Say(event.sentence, problem=True)
        if event.visit != self.visit:
            return [KeepDraft(event.chat_id, event.text), said]
        self.turns = self.turns[:-1]
        waiting, self.queue = self.queue, ()
        return [ReturnToPrompt("\n\n".join([event.text, *waiting])), said]

    def _answer_placed(self, event: AnswerPlaced) -> list[Instruction]:
        return self._change(
            event.generation_id,
            lambda turn: replace(
                turn,
                reason=event.reason or turn.reason,
                model=event.model or turn.model,
                moves=turn.moves if event.moves is None else event.moves,
            ),
        )

    def _answer_ended(self, generation_id: GenerationId, ending: Ending) -> list[Instruction]:
        if self.answer is None or self.answer.generation_id != generation_id:
            return []
        self._change(generation_id, lambda turn: replace(turn, ending=ending, progress=""))
        if ending.kind in {EndKind.FAILED, EndKind.STOPPED}:
            waiting, self.queue = self.queue, ()
            return [ReturnToPrompt("\n\n".join(waiting))] if waiting else []
        return self._next_in_queue()

    def _follow_failed(self, event: FollowFailed) -> list[Instruction]:
        if self.answer is None or self.answer.generation_id != event.generation_id:
            return []
        if event.reload:
            return [FetchChat(self.chat_id)]
        return self._answer_ended(event.generation_id, Ending(EndKind.FAILED, event.sentence))

    def _log_event(self, event: LogOpened | LogGrew | LogFailed) -> list[Instruction]:
        """Take in what happens to the log that is shown; that of another comes too late."""
        if self.log is not None and self.log.key == event.key:
            match event:
                case LogOpened():
                    self.log = self.log.anew(event.models, event.lines)
                case LogGrew():
                    self.log = self.log.grown(event.lines)
                case LogFailed():
                    self.log = replace(self.log, problem=event.sentence)
        return []

    def _next_in_queue(self) -> list[Instruction]:
        if not self.queue:
            return []
        first, *rest = self.queue
        self.queue = tuple(rest)
        return self.send(first)

    def _change(
        self, generation_id: GenerationId, change: Callable[[Turn], Turn]
    ) -> list[Instruction]:
        """Replace the answer under way, if it is the one that is meant."""
        if self.answer and self.answer.generation_id == generation_id:
            self.turns = (*self.turns[:-1], change(self.answer))
        return []

    @property
    def _pending(self) -> bool:
        return bool(self.turns) and self.turns[-1].message_id == PENDING

    def _leave(self, chat_id: ChatId) -> None:
        self.visit += 1
        self.chat_id = chat_id
        self.turns = ()
        self.queue = ()
        self.loading = False
