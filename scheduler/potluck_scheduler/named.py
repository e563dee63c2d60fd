"""Which models and which nodes a person means by their names."""

from __future__ import annotations

from potluck_proto.errors import NoNodes, UnknownModel, UnknownNode
from potluck_scheduler.convert import node_from_proto
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.core.resolve import default_model, resolve
from potluck_scheduler.nodes import NodeRegistry


def having_model(
    typed: str, node_name: str, nodes: NodeRegistry, configured_default: str
) -> tuple[list[ModelKey], list[Node]]:
    """Return the models that a typed name means, the best first, and the nodes that have one.

    Args:
        typed: `name` or `name:quantization`; empty means the pool's default.
        node_name: Name, id or address of the one that may be asked; empty means all.
        nodes: The workers.
        configured_default: Empty lets the pool decide.

    Raises:
        NoNodes: No worker is connected.
        UnknownNode: None is called so.
        UnknownModel: None that may be asked has it.
    """
    asked = nodes_called(node_name, nodes)
    typed = typed or configured_default or default_model(asked)
    there = nodes_called("", nodes)
    keys = resolve(typed, {key: model for node in there for key, model in node.files.items()})
    having = [node for node in asked if any(key in node.files for key in keys)]
    if not having:
        raise UnknownModel(f"{node_name} does not have {typed}.", model=typed)
    return keys, having


def nodes_called(name: str, nodes: NodeRegistry) -> list[Node]:
    """Return the living nodes that a name, id or address means; empty means all.

    Raises:
        NoNodes: No worker is connected.
        UnknownNode: None is called so.
    """
    there = [node_from_proto(state) for state in nodes.living_states()]
    if not there:
        raise NoNodes("No worker is connected. `potluck up` starts one on this machine.")
    called = [node for node in there if _is_meant(node, name, nodes)]
    if not called:
        names = ", ".join(node.name for node in there)
        raise UnknownNode(f"No node is called {name!r}. There are: {names}.")
    return called


def _is_meant(node: Node, asked: str, nodes: NodeRegistry) -> bool:
    """Say whether a node is the one that was asked for by name, id or address."""
    if not asked:
        return True
    connection = nodes.find(asked)
    return connection is not None and connection.node_id == node.node_id
