"""What can happen to the session, and what it can ask for.

Background tasks make events and post them; the session eats them and returns instructions; the link
carries out those for the scheduler, the screen those for the reader. None of them knows a widget.
"""

from __future__ import annotations

from dataclasses import dataclass

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_tui.log_view import LogKey
from potluck_tui.pool import PoolView
from potluck_tui.views import ChatSummary, Ending, Move, Turn

# --- Events: what happened -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """The scheduler said how the pool is; so the connection is there."""

    pool: PoolView


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The scheduler is away; the link tries again by itself."""


@dataclass(frozen=True, slots=True)
class ChatsSeen:
    """The list of chats, newest first."""

    chats: tuple[ChatSummary, ...]
    now_unix_seconds: float


@dataclass(frozen=True, slots=True)
class ChatSeen:
    """One chat with all its messages, oldest first."""

    chat: ChatSummary
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class ChatGone:
    """A chat cannot be opened: somebody deleted it, or the scheduler is away."""

    chat_id: ChatId
    sentence: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Submitted:
    """The scheduler has stored a prompt: it cannot be lost any more."""

    visit: int
    text: str
    chat_id: ChatId
    user_message_id: MessageId
    answer_message_id: MessageId
    generation_id: GenerationId


@dataclass(frozen=True, slots=True)
class SubmitFailed:
    """A prompt was not taken."""

    visit: int
    chat_id: ChatId
    text: str
    sentence: str


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
    """More text. Pieces of one answer come in order, without a gap and none twice."""

    generation_id: GenerationId
    text: str


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
class ChatDeleted:
    """A chat is gone for good, as asked."""

    chat_id: ChatId


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
class RequestFailed:
    """Something else that was asked for did not work."""

    sentence: str


Event = (
    PoolSeen
    | ConnectionLost
    | ChatsSeen
    | ChatSeen
    | ChatGone
    | Submitted
    | SubmitFailed
    | AnswerPlaced
    | AnswerProgress
    | AnswerText
    | AnswerMoved
    | AnswerEnded
    | FollowFailed
    | ChatDeleted
    | LogOpened
    | LogGrew
    | LogFailed
    | RequestFailed
)

# --- Instructions: what to do about it -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListChats:
    """Ask for the list of chats."""


@dataclass(frozen=True, slots=True)
class FetchChat:
    """Ask for a chat with its messages."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class Submit:
    """Send a prompt. The visit comes back with the outcome."""

    visit: int
    chat_id: ChatId
    text: str
    model: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Follow this answer, and no other, from a text offset on."""

    generation_id: GenerationId
    from_offset: int


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Follow no answer. It goes on without a viewer."""


@dataclass(frozen=True, slots=True)
class StopAnswer:
    """End an answer."""

    generation_id: GenerationId


@dataclass(frozen=True, slots=True)
class UpdateChat:
    """Change a chat; `None` leaves as it is."""

    chat_id: ChatId
    title: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteChat:
    """Delete a chat for good."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class FollowLog:
    """Follow this log, and no other."""

    key: LogKey


@dataclass(frozen=True, slots=True)
class UnfollowLog:
    """Follow no log."""


PoolInstruction = (
    ListChats
    | FetchChat
    | Submit
    | Follow
    | Unfollow
    | StopAnswer
    | UpdateChat
    | DeleteChat
    | FollowLog
    | UnfollowLog
)
"""For the link."""


@dataclass(frozen=True, slots=True)
class LoadDraft:
    """Another chat is shown: put its draft into the prompt."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class AdoptDraft:
    """The new chat has an id now: what is being typed belongs to it."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class KeepDraft:
    """Add a text to the draft of a chat that is not shown."""

    chat_id: ChatId
    text: str


@dataclass(frozen=True, slots=True)
class ReturnToPrompt:
    """Put a text before what is in the prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the reader a sentence."""

    sentence: str
    problem: bool = False


ScreenInstruction = LoadDraft | AdoptDraft | KeepDraft | ReturnToPrompt | Say
"""For the screen."""

Instruction = PoolInstruction | ScreenInstruction
