"""A chat as a tree: questions and answers in turn, and the one branch of them that is shown.

A message is shown when the one that it follows is shown and, of all that follow that one, it was
chosen last. So to choose a message again also shows again what was chosen after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from potluck_proto.ids import MessageId

START = MessageId("")
"""What the first message of a chat follows."""


@dataclass(frozen=True, slots=True)
class Node:
    """A message without what it says."""

    message_id: MessageId
    parent_id: MessageId
    chosen: int
    """The chat's revision when the message was chosen last; 0 is never."""
    beside_id: MessageId = START
    """The answer that this one was asked beside, if it was."""


class Branches:
    """The messages of one chat, oldest first."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = {node.message_id: node for node in nodes}
        self._after: dict[MessageId, list[Node]] = defaultdict(list)
        for node in self._nodes.values():
            self._after[node.parent_id].append(node)

    def __iter__(self) -> Iterator[Node]:
        """Yield all messages, oldest first."""
        return iter(self._nodes.values())

    def __contains__(self, message_id: MessageId) -> bool:
        return message_id in self._nodes

    def __getitem__(self, message_id: MessageId) -> Node:
        return self._nodes[message_id]

    def shown(self) -> list[Node]:
        """Return the branch that is shown, from its start to its end."""
        branch: list[Node] = []
        at = START
        while after := self._after.get(at):
            branch.append(max(after, key=lambda node: node.chosen))
            at = branch[-1].message_id
        return branch

    def last_shown(self) -> MessageId:
        """Return the end of the branch that is shown, `START` for a chat without messages."""
        shown = self.shown()
        return shown[-1].message_id if shown else START

    def way_to(self, message_id: MessageId) -> list[Node]:
        """Return a message after all that it follows, from the start on."""
        way = []
        while message_id != START:
            way.append(self._nodes[message_id])
            message_id = way[-1].parent_id
        return way[::-1]

    def siblings(self, node: Node) -> list[Node]:
        """Return all messages that follow the same one as this one, itself among them."""
        return self._after[node.parent_id]

    def together(self, node: Node) -> list[Node]:
        """Return what stands side by side with a message, itself among it, oldest first."""
        first = node.beside_id or node.message_id
        return [
            other for other in self.siblings(node) if first in (other.message_id, other.beside_id)
        ]

    def is_followed(self, message_id: MessageId) -> bool:
        """Say whether another message follows this one."""
        return bool(self._after.get(message_id))
