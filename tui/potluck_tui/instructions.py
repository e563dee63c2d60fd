"""What the session can ask for: of the scheduler, by the link, and of the screen."""

from __future__ import annotations

from dataclasses import dataclass

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_tui.export import Format
from potluck_tui.log_view import LogKey
from potluck_tui.orders import Order
from potluck_tui.preset import Preset
from potluck_tui.views import AttachedFile, ChatSummary, Question, ShelfKind


@dataclass(frozen=True, slots=True)
class ListChats:
    """Ask for a page of the list of chats."""

    shelf: ShelfKind = ShelfKind.CURRENT
    limit: int = 100
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class FetchChat:
    """Ask for a chat with its messages, unless it is still at the revision that is known."""

    chat_id: ChatId
    known_revision: int = 0


@dataclass(frozen=True, slots=True)
class Submit:
    """Send a prompt. The visit comes back with the outcome."""

    visit: int
    chat: ChatSummary
    """A new one goes with its options."""
    question: Question
    parent_id: MessageId | None = None
    """The answer that it follows; `None` is the last one shown."""


@dataclass(frozen=True, slots=True)
class Regenerate:
    """Have a question answered again."""

    chat_id: ChatId
    message_id: MessageId
    model: str = ""
    node: str = ""
    beside: bool = False


@dataclass(frozen=True, slots=True)
class ContinueAnswer:
    """Have a cut answer go on."""

    chat_id: ChatId
    message_id: MessageId


@dataclass(frozen=True, slots=True)
class SelectBranch:
    """Show the branch through a message."""

    chat_id: ChatId
    message_id: MessageId


@dataclass(frozen=True, slots=True)
class Follow:
    """Follow these answers, each from a text offset on, and no others.

    An answer that is not followed goes on without a viewer.
    """

    answers: tuple[tuple[GenerationId, int], ...] = ()


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
    pinned: bool | None = None
    archived: bool | None = None
    system_prompt: str | None = None
    beside_model: str | None = None
    preset: Preset | None = None


@dataclass(frozen=True, slots=True)
class DeleteChat:
    """Put a chat away."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class RestoreChat:
    """Take a deleted chat back."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class SearchChats:
    """Search all chats."""

    query: str


@dataclass(frozen=True, slots=True)
class ListPrompts:
    """Ask what was asked lately."""


@dataclass(frozen=True, slots=True)
class ListPresets:
    """Ask for the presets that have a name."""


@dataclass(frozen=True, slots=True)
class SavePreset:
    """Keep a preset under its name."""

    preset: Preset


@dataclass(frozen=True, slots=True)
class DeletePreset:
    """Forget a preset."""

    name: str


@dataclass(frozen=True, slots=True)
class ExportChat:
    """Write a chat to a file."""

    chat_id: ChatId
    kind: Format = Format.MARKDOWN


@dataclass(frozen=True, slots=True)
class ListDecisions:
    """Ask what was decided about a machine lately."""

    address: str
    node_id: str


@dataclass(frozen=True, slots=True)
class FitModel:
    """Ask what a model takes on each machine that has it."""

    label: str


@dataclass(frozen=True, slots=True)
class DescribeModel:
    """Ask what the files of a model say."""

    label: str


@dataclass(frozen=True, slots=True)
class Recommend:
    """Ask which well-known models would run on this pool."""


@dataclass(frozen=True, slots=True)
class SearchHub:
    """Search the hub for repositories."""

    words: str


@dataclass(frozen=True, slots=True)
class ListRepository:
    """Ask what can be fetched of a repository of the hub."""

    repository: str


HubRequest = Recommend | SearchHub | ListRepository
"""Each is answered with a page of what can be fetched."""


@dataclass(frozen=True, slots=True)
class FollowLog:
    """Follow this log, and no other; `None` is none at all."""

    key: LogKey | None = None


Request = (
    ListChats
    | FetchChat
    | Submit
    | Regenerate
    | ContinueAnswer
    | SelectBranch
    | StopAnswer
    | UpdateChat
    | DeleteChat
    | RestoreChat
    | SearchChats
    | ListPrompts
    | ListPresets
    | SavePreset
    | DeletePreset
    | ExportChat
    | ListDecisions
    | FitModel
    | DescribeModel
    | HubRequest
    | Order
)
"""Each is a call of the scheduler, or a few."""

PoolInstruction = Request | Follow | FollowLog
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
class SaveDraft:
    """What must not be lost is another now."""


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
class FillPrompt:
    """Put a text in the place of what is in the prompt."""

    text: str
    files: tuple[AttachedFile, ...] = ()
    """What `@` and their names in the text mean, before any file of the disk."""


@dataclass(frozen=True, slots=True)
class ShowMessage:
    """Scroll to a message."""

    message_id: MessageId


@dataclass(frozen=True, slots=True)
class Announce:
    """A long answer has ended: tell it to a reader who looks elsewhere."""

    chat_id: ChatId
    title: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the reader a sentence."""

    sentence: str
    problem: bool = False


ScreenInstruction = (
    LoadDraft | AdoptDraft | SaveDraft | KeepDraft | ReturnToPrompt | FillPrompt | ShowMessage | Say
)
"""For the screen."""

Instruction = PoolInstruction | ScreenInstruction | Announce
