"""An answer that is to be made, or to go on, as it was stored."""

from __future__ import annotations

from dataclasses import dataclass

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types


@dataclass(frozen=True, slots=True)
class Submission:
    """An answer that is to be made, as it was stored."""

    chat_id: ChatId
    user_message_id: MessageId
    answer_message_id: MessageId
    generation_id: GenerationId
    model: str
    conversation: tuple[types.Message, ...]
    """All that the model is to see, the question last."""
    asked: pb.SubmitRequest
    """How it is to be made: sampling, thinking, nodes, tags, who asks."""
    revision: int = 0
    """The chat's, after this change."""
    repeated: bool = False
    """The same request was stored before; nothing new was."""
    beside: Submission | None = None
    """The answer of the chat's other model, where it has one."""
    text: str = ""
    """What an answer that was cut or interrupted has already, when it goes on."""
    token_ids: tuple[int, ...] = ()
    lineage: str = ""
    """Of whose vocabulary the tokens are; empty where they are not the whole answer."""
    continued_tokens: int = 0
    """Those that it had when it last went on after an end: a limit counts the tokens after them."""
    node_name: str = ""
    """Where it was last."""
    explanation: types.Explanation | None = None
    seams: tuple[pb.Seam, ...] = ()
    thought_seconds: float = 0.0
