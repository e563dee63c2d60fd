"""What can happen to the session.

Background tasks make events and post them; the session eats them and returns instructions. None of
them knows a widget.
"""

from __future__ import annotations

from dataclasses import dataclass

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_tui.hub import Page
from potluck_tui.instructions import HubRequest
from potluck_tui.log_view import LogKey
from potluck_tui.machine import DecisionView
from potluck_tui.model_facts import Fact
from potluck_tui.orders import Fetch, Order
from potluck_tui.pool import PoolView
from potluck_tui.preset import Preset
from potluck_tui.views import ChatSummary, Ending, Hit, Move, Question, ShelfKind, Turn


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """The scheduler said how the pool is; so the connection is there."""

    pool: PoolView
    seconds: float = 0.0
    """When it came, by a clock that only goes forward."""


@dataclass(frozen=True, slots=True)
class SchedulerSilent:
    """The connection stands, and the scheduler has said nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The scheduler is away; the link tries again by itself, unless it is for good."""

    for_good: bool = False


# --- Chats ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChatsSeen:
    """A page of the list of chats, in its order."""

    chats: tuple[ChatSummary, ...]
    now_unix_seconds: float
    shelf: ShelfKind = ShelfKind.CURRENT
    page_token: str = ""
    """Which page; empty for the first."""
    next_page_token: str = ""
    """The page after it; empty where there is none."""


@dataclass(frozen=True, slots=True)
class ChatSeen:
    """One chat with the messages that are shown, oldest first."""

    chat: ChatSummary
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class ChatGone:
    """A chat cannot be opened: somebody deleted it, or the scheduler is away."""

    chat_id: ChatId
    sentence: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class BranchChanged:
    """Another branch of a chat is shown now, or its last answer goes on: as was asked."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class BranchNotChanged:
    """What was asked for a chat's branches cannot be."""

    chat_id: ChatId
    sentence: str


@dataclass(frozen=True, slots=True)
class ChatDeleted:
    """A chat is put away, as asked; it can be restored."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class ChatRestored:
    """A deleted chat is back."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class SearchSeen:
    """What a search found, the best first."""

    query: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class PromptsSeen:
    """What was asked lately in all chats, oldest first."""

    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PresetsSeen:
    """The presets that have a name."""

    presets: tuple[Preset, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A chat was written to a file."""

    path: str


# --- Answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    """The scheduler has stored a prompt: it cannot be lost any more."""

    visit: int
    question: Question
    chat_id: ChatId
    user_message_id: MessageId
    answer_message_id: MessageId
    generation_id: GenerationId
    revision: int = 0


@dataclass(frozen=True, slots=True)
class SubmitFailed:
    """A prompt was not taken."""

    visit: int
    chat_id: ChatId
    question: Question
    sentence: str
    unreachable: bool = False
    """The scheduler did not answer, and may have taken it."""


@dataclass(frozen=True, slots=True)
class AnswerPlaced:
    """A place was chosen for an answer, or a viewer learns which one was."""

    generation_id: GenerationId
    reason: str
    model: str = ""
    moves: tuple[Move, ...] | None = None


@dataclass(frozen=True, slots=True)
class AnswerProgress:
    """What happens to an answer before its text, in words."""

    generation_id: GenerationId
    words: str


@dataclass(frozen=True, slots=True)
class AnswerText:
    """More text. Pieces of one answer come in order and without a gap; some may be known."""

    generation_id: GenerationId
    offset: int
    """Where it starts in the answer, in code points."""
    text: str
    seconds: float = 0.0
    """When it came, by a clock that only goes forward."""


@dataclass(frozen=True, slots=True)
class AnswerMoved:
    """The answer goes on at another node."""

    generation_id: GenerationId
    move: Move


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    """The answer is complete, or will never be."""

    generation_id: GenerationId
    ending: Ending


@dataclass(frozen=True, slots=True)
class FollowFailed:
    """The scheduler does not let this viewer follow an answer."""

    generation_id: GenerationId
    sentence: str
    reload: bool
    """The scheduler has less of the answer than the viewer: read the chat again."""


@dataclass(frozen=True, slots=True)
class LogOpened:
    """A log is being followed, or again after a lost connection: its last lines."""

    key: LogKey
    models: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogGrew:
    """A log has new lines."""

    key: LogKey
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogFailed:
    """A log cannot be shown."""

    key: LogKey
    sentence: str


@dataclass(frozen=True, slots=True)
class DecisionsSeen:
    """What was decided about a machine lately, newest first."""

    address: str
    decisions: tuple[DecisionView, ...]


@dataclass(frozen=True, slots=True)
class FitSeen:
    """What a model takes on each machine, in lines of at most 80 cells; or why nobody knows."""

    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactsSeen:
    """What the files of a model say; or why nobody knows, as its only fact."""

    label: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class HubAnswered:
    """What can be fetched, as asked; or why nobody knows."""

    request: HubRequest
    page: Page | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """A fetch ended without its model."""

    order: Fetch
    sentence: str


@dataclass(frozen=True, slots=True)
class OrderDone:
    """A machine has done what it was told."""

    order: Order


@dataclass(frozen=True, slots=True)
class Noted:
    """Something went wrong on this machine that nobody asked for."""

    sentence: str


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """Something else that was asked for did not work."""

    sentence: str


Event = (
    PoolSeen
    | ConnectionLost
    | SchedulerSilent
    | ChatsSeen
    | ChatSeen
    | ChatGone
    | BranchChanged
    | BranchNotChanged
    | ChatDeleted
    | ChatRestored
    | SearchSeen
    | PromptsSeen
    | PresetsSeen
    | Exported
    | Submitted
    | SubmitFailed
    | AnswerPlaced
    | AnswerProgress
    | AnswerText
    | AnswerMoved
    | AnswerEnded
    | FollowFailed
    | LogOpened
    | LogGrew
    | LogFailed
    | DecisionsSeen
    | FitSeen
    | FactsSeen
    | HubAnswered
    | FetchFailed
    | OrderDone
    | Noted
    | RequestFailed
)
