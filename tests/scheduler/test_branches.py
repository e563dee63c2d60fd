from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from potluck_proto.ids import MessageId
from potluck_scheduler.branches import START, Branches, Node


def tree(*rows: tuple[str, str, int]) -> Branches:
    return Branches(
        Node(MessageId(name), MessageId(parent), chosen) for name, parent, chosen in rows
    )


def shown(branches: Branches) -> str:
    return "".join(node.message_id for node in branches.shown())


def test_a_chat_without_messages_shows_nothing() -> None:
    assert tree().shown() == []
    assert tree().last_shown() == START


def test_what_was_chosen_last_is_shown_with_what_was_chosen_after_it() -> None:
    rows = [("a", "", 1), ("b", "a", 1), ("c", "b", 2), ("d", "c", 2), ("e", "b", 3), ("f", "e", 3)]
    assert shown(tree(*rows)) == "abef"
    assert shown(tree(*rows, ("g", "", 4))) == "g"
    back = [(name, parent, 5 if name in "abc" else chosen) for name, parent, chosen in rows]
    assert shown(tree(*back)) == "abcd"


def test_answers_that_were_asked_together_stand_side_by_side() -> None:
    nodes = [
        Node(MessageId(name), MessageId("q"), 0, MessageId(beside))
        for name, beside in [("a", ""), ("b", "a"), ("c", ""), ("d", "a")]
    ]
    branches = Branches([Node(MessageId("q"), START, 1), *nodes])
    for name, together in [("a", "abd"), ("b", "abd"), ("d", "abd"), ("c", "c")]:
        node = branches[MessageId(name)]
        assert "".join(other.message_id for other in branches.together(node)) == together
    assert [other.message_id for other in branches.siblings(nodes[0])] == ["a", "b", "c", "d"]


@given(st.lists(st.integers(0, 30), max_size=30), st.data())
def test_to_choose_a_message_shows_it_and_keeps_every_other_choice(
    parents: list[int], data: st.DataObject
) -> None:
    nodes: list[Node] = []
    for number, parent in enumerate(parents):
        at = nodes[parent % len(nodes)].message_id if nodes and parent else START
        nodes.append(Node(MessageId(str(number)), at, number + 1))
    if not nodes:
        return
    chosen = data.draw(st.sampled_from(nodes))
    way = Branches(nodes).way_to(chosen.message_id)
    after = Branches(
        Node(node.message_id, node.parent_id, 99 if node in way else node.chosen) for node in nodes
    )
    assert chosen.message_id in [node.message_id for node in after.shown()]
    kept = [node.chosen for node in nodes if node not in way]
    assert [node.chosen for node in after if node.chosen != 99] == kept
