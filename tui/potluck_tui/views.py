"""What the screen shows of chats and answers, as plain values.

Protobuf ends here: `from_proto` functions take it apart, and clean every text that somebody else
wrote. The text of an answer alone stays as it came, since offsets count its code points; the
transcript cleans it when it draws it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2
from potluck_tui.clean import clean
from potluck_tui.preset import Preset
from potluck_tui.words import duration


class Speaker(StrEnum):
    """Who wrote a turn."""

    USER = "user"
    MODEL = "model"
    SYSTEM = "system"


class EndKind(StrEnum):
    """Why an answer ended, as far as a reader cares."""

    COMPLETE = "complete"
    TOKEN_LIMIT = "token limit"
    CONTEXT_FULL = "context full"
    STOPPED = "stopped"
    FAILED = "failed"


_END_KINDS = {
    types_pb2.END_REASON_MAX_TOKENS: EndKind.TOKEN_LIMIT,
    types_pb2.END_REASON_CONTEXT_FULL: EndKind.CONTEXT_FULL,
    types_pb2.END_REASON_STOPPED: EndKind.STOPPED,
    types_pb2.END_REASON_FAILED: EndKind.FAILED,
}

_SPEAKERS = {
    types_pb2.ROLE_USER: Speaker.USER,
    types_pb2.ROLE_SYSTEM: Speaker.SYSTEM,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended, and what it took."""

    kind: EndKind
    problem: str = ""
    retryable: bool = False
    completion_tokens: int = 0
    tokens_per_second: float = 0.0
    time_to_first_token_seconds: float = 0.0
    queue_seconds: float = 0.0
    thought_seconds: float = 0.0
    not_stored: str = ""
    """Why the answer is not on disk, where it is not."""

    @property
    def can_go_on(self) -> bool:
        """Say whether the answer was cut where it could go on."""
        return self.kind in {EndKind.TOKEN_LIMIT, EndKind.STOPPED, EndKind.FAILED}

    @classmethod
    def from_proto(cls, end: types_pb2.End) -> Ending:
        """Take an `End` apart."""
        return cls(
            kind=_END_KINDS.get(end.reason, EndKind.COMPLETE),
            problem=clean(end.error.message),
            retryable=end.error.retryable,
            completion_tokens=end.usage.completion_tokens,
            tokens_per_second=end.usage.tokens_per_second,
            time_to_first_token_seconds=end.usage.time_to_first_token_seconds,
            queue_seconds=end.usage.queue_seconds,
            thought_seconds=end.usage.thought_seconds,
            not_stored=clean(end.not_stored.message),
        )


@dataclass(frozen=True, slots=True)
class Move:
    """Where an answer went on at another node."""

    text_offset: int
    to_node: str
    reason: str
    exact: bool = True
    """Whether it is the answer that would have come; else its text alone went on."""

    @classmethod
    def from_proto(cls, seam: pb.Seam) -> Move:
        """Take a `Seam` apart."""
        return cls(seam.text_offset, clean(seam.to_node), clean(seam.reason), seam.exact)


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """A text file that goes with a question."""

    name: str
    content: str

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.content.encode())

    @classmethod
    def from_proto(cls, attachment: pb.Attachment) -> AttachedFile:
        """Take an attachment apart. Its text stays as it is, as it may be sent again."""
        return cls(clean(attachment.name), attachment.content)


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks."""

    text: str
    files: tuple[AttachedFile, ...] = ()

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to send."""
        return not self.text.strip() and not self.files


NO_MESSAGE = MessageId("")
"""What the first message of a chat follows."""

NO_GENERATION = GenerationId("")
"""What a prompt has in the place of a generation."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat. An answer has a generation; it is under way until it has an ending."""

    message_id: MessageId
    speaker: Speaker
    text: str
    generation_id: GenerationId = NO_GENERATION
    model: str = ""
    reason: str = ""
    """Where it ran and why."""
    progress: str = ""
    """What happens before the first text, in words."""
    ending: Ending | None = None
    moves: tuple[Move, ...] = ()
    parent_id: MessageId = NO_MESSAGE
    siblings: tuple[MessageId, ...] = ()
    """All that follow the same message, itself among them; empty where that is not known yet."""
    shown: bool = True
    """On the branch that goes on; an answer that stands beside one of it is not."""
    beside_id: MessageId = NO_MESSAGE
    """The answer that this one was asked beside."""
    files: tuple[AttachedFile, ...] = ()
    begun_seconds: float = 0.0
    latest_seconds: float = 0.0
    """When this viewer saw the first text come, and the last; 0 where it did not."""

    @property
    def under_way(self) -> bool:
        """Say whether text may still come."""
        return bool(self.generation_id) and self.ending is None

    @property
    def place(self) -> str:
        """Which of its siblings it is, as `‹2/3›`; empty for an only one."""
        if len(self.siblings) < 2:
            return ""
        return f"‹{self.siblings.index(self.message_id) + 1}/{len(self.siblings)}›"

    def neighbour(self, step: int) -> MessageId | None:
        """Return the sibling so many places on, `None` where there is none."""
        if self.message_id not in self.siblings:
            return None
        at = self.siblings.index(self.message_id) + step
        return self.siblings[at] if 0 <= at < len(self.siblings) else None

    def is_beside(self, other: Turn) -> bool:
        """Say whether two answers stand side by side."""
        if self.speaker is not Speaker.MODEL or self.parent_id != other.parent_id:
            return False
        first = other.beside_id or other.message_id
        return first in (self.message_id, self.beside_id)

    @classmethod
    def from_proto(cls, message: pb.StoredMessage) -> Turn:
        """Take a stored message apart."""
        return cls(
            message_id=MessageId(message.message_id),
            speaker=_SPEAKERS.get(message.role, Speaker.MODEL),
            text=message.content,
            generation_id=GenerationId(message.generation_id),
            model=clean(message.model),
            reason=reason_words(message.explanation),
            ending=Ending.from_proto(message.end) if message.HasField("end") else None,
            moves=tuple(Move.from_proto(seam) for seam in message.seams),
            parent_id=MessageId(message.parent_message_id),
            siblings=tuple(MessageId(sibling) for sibling in message.sibling_ids),
            shown=message.shown,
            beside_id=MessageId(message.beside_message_id),
            files=tuple(AttachedFile.from_proto(file) for file in message.attachments),
        )


NEW_CHAT = ChatId("")
"""The chat that does not exist before its first prompt."""


class ShelfKind(StrEnum):
    """Where chats are kept, in the word that the list shows."""

    CURRENT = "chats"
    ARCHIVED = "archived"
    DELETED = "deleted"


SHELVES = {
    ShelfKind.CURRENT: pb.SHELF_CURRENT,
    ShelfKind.ARCHIVED: pb.SHELF_ARCHIVED,
    ShelfKind.DELETED: pb.SHELF_DELETED,
}


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """One chat of the list."""

    chat_id: ChatId
    title: str
    model: str = ""
    updated_unix_seconds: float = 0.0
    pinned: bool = False
    message_count: int = 0
    active: bool = False
    archived: bool = False
    revision: int = 0
    system_prompt: str = ""
    preset: Preset = field(default_factory=Preset)
    beside_model: str = ""
    """Another model that each prompt is asked as well."""

    @classmethod
    def from_proto(cls, chat: pb.Chat) -> ChatSummary:
        """Take a chat apart."""
        return cls(
            chat_id=ChatId(chat.chat_id),
            title=one_line(chat.title) or "Untitled",
            model=clean(chat.model),
            updated_unix_seconds=chat.updated_unix_seconds,
            pinned=chat.pinned,
            message_count=chat.message_count,
            active=chat.active,
            archived=chat.archived,
            revision=chat.revision,
            system_prompt=clean(chat.system_prompt),
            preset=Preset.from_proto(chat.preset),
            beside_model=clean(chat.beside_model),
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search found: a message, or a chat by its title."""

    chat_id: ChatId
    title: str
    message_id: MessageId = NO_MESSAGE
    """`NO_MESSAGE` where the title is what was found."""
    snippet: tuple[tuple[str, bool], ...] = ()
    """What stands around the words, in pieces; those that match are marked."""

    @classmethod
    def from_proto(cls, hit: pb.SearchHit) -> Hit:
        """Take a hit apart."""
        return cls(
            chat_id=ChatId(hit.chat_id),
            title=one_line(hit.chat_title) or "Untitled",
            message_id=MessageId(hit.message_id),
            snippet=tuple((_spaced(part.text), part.match) for part in hit.snippet),
        )


def _spaced(text: str) -> str:
    """Return a piece of a text on one line, without the marks around thoughts."""
    return re.sub(r"</?think(ing)?>|[\n\t]", " ", clean(text))


def one_line(text: str) -> str:
    """Return clean text on one line."""
    return " ".join(clean(text).split())


def reason_words(explanation: types_pb2.Explanation) -> str:
    """Return where an answer runs and why, in one clause; empty where nothing is decided."""
    node, summary = clean(explanation.node_name), clean(explanation.summary)
    return f"{node}: {summary}" if node and summary and node not in summary else summary or node


def progress_words(progress: types_pb2.Progress) -> str:
    """Return what happens to an answer that has no text yet, in a few words."""
    share = f" {progress.fraction:.0%}" if progress.HasField("fraction") else ""
    match progress.phase:
        case types_pb2.PHASE_QUEUED:
            ahead, seconds = progress.queue_position, progress.wait_seconds
            words = f"waiting, {ahead} ahead" if ahead else "waiting for a place"
            return f"{words}, about {duration(seconds)}" if seconds >= 1 else words
        case types_pb2.PHASE_LOADING:
            return f"loading the model{share}"
        case types_pb2.PHASE_PREFILL:
            return f"reading the prompt{share}"
        case _:
            return ""
