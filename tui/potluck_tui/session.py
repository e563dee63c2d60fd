"""What the terminal knows and decides, without a terminal.

The session eats events, answers what the reader does, and returns instructions; it does no I/O and
knows no widget. All of it can be thrown away at any moment: the scheduler owns chats and answers.
"""

from __future__ import annotations

from typing import assert_never

from potluck_proto.ids import ChatId, MessageId
from potluck_tui import events
from potluck_tui import instructions as do
from potluck_tui.conversation import Conversation
from potluck_tui.events import Event
from potluck_tui.fleet import Fleet
from potluck_tui.hub import Hub
from potluck_tui.inspector import Inspector
from potluck_tui.instructions import Instruction
from potluck_tui.library import Library
from potluck_tui.look_up import LookUp
from potluck_tui.model_facts import Fact
from potluck_tui.notices import LongAnswers
from potluck_tui.orders import Fetch, Order
from potluck_tui.pool import ModelView, PoolView
from potluck_tui.preset import Preset
from potluck_tui.views import (
    NEW_CHAT,
    NO_MESSAGE,
    ChatSummary,
    Speaker,
)

RECENT_SECONDS = 6 * 3600.0
"""A chat touched within this time is what somebody who opens the terminal wants to see again."""


class Session:
    """The pool, the chats, the chat that is shown, and what was looked up."""

    def __init__(self) -> None:
        self.connected: bool | None = None
        """Whether the scheduler answers; `None` before it is known."""
        self.refused = False
        """The scheduler is not tried again."""
        self.silent_seconds = 0.0
        """For how long the scheduler has said nothing at all; 0 where that is as it should be."""
        self.pool = PoolView()
        self.fleet = Fleet()
        self.fits = LookUp[do.FitModel, str](do.FitModel)
        """What models take on each machine, in lines."""
        self.facts = LookUp[do.DescribeModel, Fact](do.DescribeModel)
        """What the files of models say."""
        self.hub = Hub()
        self.long_answers = LongAnswers()
        self.library = Library()
        self.presets: tuple[Preset, ...] = ()
        self.prompts: tuple[str, ...] = ()
        """What was asked lately in all chats, oldest first."""
        self.conversation = Conversation()
        """The chat that is shown."""
        self.inspector = Inspector()
        self.unfinished: ChatId | None = None
        """The chat in which something was being typed when the terminal ended last."""
        self._started = False
        self._revision = -1
        self._introduced: set[str] = set()
        """Models of which the reader was told that they are not made to answer."""

    # --- What the screen asks --------------------------------------------------------------------

    @property
    def current_model(self) -> ModelView | None:
        """The model that would answer now, where the pool has it."""
        return self.pool.model(self.conversation.chat.model)

    @property
    def asked(self) -> list[str]:
        """What can be asked again, oldest first: of all chats, then of this one."""
        here = [turn.text for turn in self.conversation.turns if turn.speaker is Speaker.USER]
        return list(dict.fromkeys(reversed([*self.prompts, *here])))[::-1]

    def open_chat(self, chat_id: ChatId, goal: MessageId = NO_MESSAGE) -> list[Instruction]:
        """Show a chat, at its end or at a message."""
        if chat_id == NEW_CHAT:
            return self.conversation.new_chat()
        chat = self.library.chat(chat_id) or ChatSummary(chat_id, "…")
        return self.conversation.open(chat, goal)

    def show_hit(self, step: int) -> list[Instruction]:
        """Show the hit so many places on where it stands."""
        hit = self.library.step(step)
        return self.open_chat(hit.chat_id, hit.message_id) if hit else []

    # --- What happens ----------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Instruction]:  # noqa: PLR0911, PLR0912 - a table
        """Take in what happened; return what to do about it."""
        match event:
            case events.PoolSeen():
                return self._pool_seen(event)
            case events.ConnectionLost(for_good):
                self.connected, self.refused = False, for_good
                self.conversation.cut_off = True
                return []
            case events.SchedulerSilent(seconds):
                self.silent_seconds = seconds
                return []
            case events.ChatsSeen():
                return self._chats_seen(event)
            case events.ChatSeen():
                return self.conversation.seen(event)
            case events.ChatGone():
                return self._chat_gone(event)
            case events.BranchChanged(chat_id):
                shown = chat_id == self.conversation.chat_id
                return [do.FetchChat(chat_id)] if shown else []
            case events.BranchNotChanged(chat_id, sentence):
                self.conversation.not_changed(chat_id)
                return [do.Say(sentence, problem=True)]
            case events.ChatDeleted(chat_id):
                shown = chat_id == self.conversation.chat_id
                gone = self.conversation.new_chat() if shown else []
                return [*gone, *self.library.deleted(chat_id)]
            case events.ChatRestored(chat_id):
                return list(self.library.restored(chat_id))
            case events.SearchSeen(query, hits):
                self.library.found(query, hits)
                return []
            case events.PromptsSeen(prompts):
                self.prompts = prompts
                return []
            case events.PresetsSeen(presets):
                self.presets = presets
                return []
            case events.Exported(path):
                return [do.Say(f"The chat is written to {path}.")]
            case events.Submitted():
                return self._submitted(event)
            case events.SubmitFailed():
                return self.conversation.submit_failed(event)
            case (
                events.AnswerPlaced()
                | events.AnswerProgress()
                | events.AnswerText()
                | events.AnswerMoved()
                | events.AnswerEnded()
            ):
                return self.conversation.change(event)
            case events.FollowFailed():
                return self.conversation.follow_failed(event)
            case (
                events.LogOpened() | events.LogGrew() | events.LogFailed() | events.DecisionsSeen()
            ):
                self.inspector.take_in(event)
                return []
            case events.FitSeen(label, lines):
                self.fits.found(label, lines)
                return []
            case events.FactsSeen(label, facts):
                self.facts.found(label, facts)
                return []
            case events.HubAnswered():
                self.hub.answered(event)
                return []
            case events.FetchFailed():
                return self.hub.fetch_failed(event)
            case events.OrderDone(order):
                return self._order_done(order)
            case events.RequestFailed(sentence) | events.Noted(sentence):
                return [do.Say(sentence, problem=True)]
            case _:
                assert_never(event)

    def _order_done(self, order: Order) -> list[Instruction]:
        if isinstance(order, Fetch):
            self.hub.forget(order.model)
        return [do.Say(order.done)]

    def _pool_seen(self, event: events.PoolSeen) -> list[Instruction]:
        was_connected, self.connected = self.connected, True
        self.silent_seconds = 0.0
        instructions = self._news(self.pool, event)
        self.pool = event.pool
        unchanged = event.pool.chats_revision == self._revision
        if was_connected and unchanged and not self.conversation.cut_off:
            return instructions
        self._revision = event.pool.chats_revision
        instructions.append(self.library.read_again())
        if not was_connected:
            instructions += [do.ListPrompts(), do.ListPresets()]
        return [*instructions, *self.conversation.look_again()]

    def _news(self, before: PoolView, event: events.PoolSeen) -> list[Instruction]:
        """Take in what is new of the machines and of answers in other chats."""
        pool, news = event.pool, list[Instruction]()
        if pool.problem and pool.problem != before.problem:
            news.append(do.Say(pool.problem, problem=True))
        self.fleet.seen(pool, event.seconds)
        for chat_id in self.long_answers.seen(pool.active, event.seconds):
            chat = self.library.chat(chat_id)
            news.append(do.Announce(chat_id, chat.title if chat else ""))
        if pool.active != before.active:
            news += self.inspector.ask_for_decisions()
        return news

    def _chats_seen(self, event: events.ChatsSeen) -> list[Instruction]:
        self.library.seen(event)
        if self._started:
            return []
        self._started = True
        conversation = self.conversation
        first = NEW_CHAT if conversation.turns or conversation.chat_id else self._first_chat(event)
        return self.open_chat(first) if first else []

    def _first_chat(self, event: events.ChatsSeen) -> ChatId:
        """Return where to begin: at what was being typed, at an answer under way, or lately."""
        known = {NEW_CHAT, *(chat.chat_id for chat in event.chats)}
        if self.unfinished is not None and self.unfinished in known:
            return self.unfinished
        newest = max(event.chats, key=lambda chat: chat.updated_unix_seconds, default=None)
        wanted = next((chat for chat in event.chats if chat.active), newest)
        if wanted is None:
            return NEW_CHAT
        recent = event.now_unix_seconds - wanted.updated_unix_seconds < RECENT_SECONDS
        return wanted.chat_id if wanted.active or recent else NEW_CHAT

    def _chat_gone(self, event: events.ChatGone) -> list[Instruction]:
        said: list[Instruction] = [do.Say(event.sentence, problem=True)]
        if event.chat_id != self.conversation.chat_id or not event.deleted:
            return said
        return [*said, *self.conversation.new_chat(), self.library.read_again()]

    def _submitted(self, event: events.Submitted) -> list[Instruction]:
        if event.visit != self.conversation.visit:
            return [self.library.read_again()]
        self.prompts = (*self.prompts, event.question.text)
        shown = self.conversation.submitted(event)
        return [*shown, *self._introduce_model(), self.library.read_again()]

    def _introduce_model(self) -> list[Instruction]:
        """Tell the reader once of a model that is asked to chat and was not made to answer."""
        model = self.current_model
        if model is None or not (model.goes_on and model.note) or model.label in self._introduced:
            return []
        self._introduced.add(model.label)
        return [do.Say(model.note)]
