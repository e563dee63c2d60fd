"""What the screen shows of chats and answers, as plain values.

Protobuf ends here: `from_proto` functions take it apart, and clean every text that somebody else
wrote. The text of an answer alone stays as it came, since offsets count its code points; the
transcript cleans it when it draws it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2
from potluck_tui.clean import clean
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
    not_stored: str = ""
    """Why the answer is not on disk, where it is not."""

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

    @property
    def under_way(self) -> bool:
        """Say whether text may still come."""
        return bool(self.generation_id) and self.ending is None

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
        )


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

    @classmethod
    def from_proto(cls, chat: pb.Chat) -> ChatSummary:
        """Take a chat apart."""
        return cls(
            chat_id=ChatId(chat.chat_id),
            title=" ".join(clean(chat.title).split()) or "Untitled",
            model=clean(chat.model),
            updated_unix_seconds=chat.updated_unix_seconds,
            pinned=chat.pinned,
            message_count=chat.message_count,
            active=chat.active,
        )


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
