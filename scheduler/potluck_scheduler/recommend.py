"""What of the catalogue runs on this pool: where, how, and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from potluck_scheduler.catalogue import Row
from potluck_scheduler.core.model import Model, ModelKey, Node
from potluck_scheduler.core.speeds import Speeds

BITS = {"Q8_0": 8.5, "Q6_K": 6.57, "Q5_K_M": 5.7, "Q4_K_M": 4.9, "Q3_K_M": 4.0}
"""Bits for each weight of the schemes that are worth offering, the best first, as files of 8B
parameters have them."""

PROCESS_BYTES = 400 * 2**20
"""What a model takes beside weights and cache, about."""

USABLE = 0.9
"""Of a node's memory: the rest is the system's and other programs'."""

DEFAULT_CONTEXT_LENGTH = 8192

QUICK = 5.0
"""Tokens per second from which a model is quick enough to read along."""


@dataclass(frozen=True, slots=True)
class Way:
    """A model, held on a node in one way."""

    row: Row
    node: Node
    key: ModelKey
    """Of the node's file, or of what it would be."""
    quantization: str
    context_length: int
    file_bytes: int
    needed_bytes: int
    tokens_per_second: float
    measured: bool
    partly_offloaded: bool
    present: bool


def recommend(
    rows: Iterable[Row], nodes: Iterable[Node], speeds: Speeds, context_length: int, use: str = ""
) -> list[Way]:
    """Return the best way to hold each model that fits somewhere: quick ones first, then by size.

    Args:
        rows: The catalogue.
        nodes: The workers that may hold them.
        speeds: What was measured.
        context_length: Tokens that one conversation shall have; 0 is the default.
        use: Only models that are good for this; empty is any.
    """
    nodes = [node for node in nodes if not node.draining]
    found = []
    for row in rows:
        if use and use not in row.uses:
            continue
        wanted = min(context_length or DEFAULT_CONTEXT_LENGTH, row.context_length)
        ways = [way for node in nodes for way in _ways(row, node, speeds, wanted)]
        if ways:
            found.append(max(ways, key=_worth))
    return sorted(
        found, key=lambda w: (w.tokens_per_second >= QUICK, w.row.parameters), reverse=True
    )


def _worth(way: Way) -> tuple[bool, bool, float, float]:
    """Return what makes one way better than another: speed counts until it is enough."""
    quick = way.tokens_per_second >= QUICK
    return quick, not way.partly_offloaded, BITS[way.quantization], way.tokens_per_second


def _ways(row: Row, node: Node, speeds: Speeds, context_length: int) -> Iterator[Way]:
    """Yield the ways in which a node could hold a model."""
    fast = USABLE * node.memory_total_bytes
    room = fast + USABLE * node.spill_total_bytes
    for quantization, bits in BITS.items():
        if row.sizes and quantization not in row.sizes:
            continue
        file_bytes = row.sizes.get(quantization) or int(row.parameters * bits / 8)
        needed = file_bytes + row.kv_cache_bytes(context_length) + PROCESS_BYTES
        if needed > room:
            continue
        key = _key(row, quantization, node)
        reading = Model(key, file_bytes=int(row.active * bits / 8))
        offloaded = needed > fast
        seconds = _seconds_per_token(node, reading, speeds, needed if offloaded else 0)
        measured = speeds.get((node.node_id, key))
        yield Way(
            row=row,
            node=node,
            key=key,
            quantization=quantization,
            context_length=context_length,
            file_bytes=file_bytes,
            needed_bytes=needed,
            tokens_per_second=1 / seconds,
            measured=measured is not None and measured.samples > 0,
            partly_offloaded=offloaded,
            present=key in node.files,
        )


def _seconds_per_token(node: Node, model: Model, speeds: Speeds, offloaded_bytes: int) -> float:
    """Return what a token takes; of layers in main memory it is read at that one's speed."""
    fast = speeds.seconds_per_token(node, model, 1)
    if not offloaded_bytes:
        return fast
    beside = Node(node.node_id, node.name, accelerator="cpu")
    slow = Speeds().seconds_per_token(beside, model, 1)
    share = 1 - USABLE * node.memory_total_bytes / offloaded_bytes
    return fast * (1 - share) + slow * share


def _key(row: Row, quantization: str, node: Node) -> ModelKey:
    """Return the key of the node's own file of a row, whatever its case, else what it would be."""
    for key in node.files:
        if key.name.lower() == row.name.lower() and key.quantization == quantization:
            return key
    return ModelKey(row.name, quantization)
