"""The zeroconf record by which a worker is found.

Service type `_potluck._tcp.local.`, one instance a worker, named after the node. The TXT record
holds the protocol version (`v`), the role (`r`), the cluster (`c`) and, as msgpack (`m`), coarse
facts for people who look at the network. Never a secret, never what joining needs, no model names.

A port of 0 says: no TCP listener; whoever shares the worker's home reaches it through its local
socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from potluck_proto import PROTOCOL_VERSION
from potluck_proto.errors import ProtocolMismatch
from potluck_proto.ids import NodeId

SERVICE_TYPE = "_potluck._tcp.local."

BLOB_LIMIT_BYTES = 200
"""A TXT entry may have 255 bytes, key and all."""

OPEN_CLUSTER = "open-lan"
"""The cluster of all that run with `insecure_lan`: whoever is on the network belongs to it."""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What a worker tells the network of itself."""

    node_id: NodeId
    name: str
    cluster: str
    engines: tuple[str, ...]
    accelerator: str
    memory_total_mib: int
    memory_free_mib: int

    def to_properties(self) -> dict[str | bytes, str | bytes | None]:
        """Return the TXT record."""
        blob = {
            "id": self.node_id,
            "n": self.name[:40],
            "e": list(self.engines[:4]),
            "a": self.accelerator,
            "mt": self.memory_total_mib,
            "mf": self.memory_free_mib,
        }
        packed = msgpack.packb(blob)
        if len(packed) > BLOB_LIMIT_BYTES:
            packed = msgpack.packb(blob | {"n": "", "e": []})
        return {"v": str(PROTOCOL_VERSION), "r": "worker", "c": self.cluster, "m": packed}

    @classmethod
    def from_properties(cls, properties: Mapping[bytes, bytes | None]) -> WorkerRecord:
        """Read a TXT record, which anybody on the network may have written.

        Raises:
            ValueError: It is no worker's record, or is malformed.
            ProtocolMismatch: It speaks another version.
        """
        version = properties.get(b"v") or b""
        if properties.get(b"r") != b"worker":
            raise ValueError("not a worker")
        if version != str(PROTOCOL_VERSION).encode():
            raise ProtocolMismatch(
                f"A worker speaks protocol version {version.decode(errors='replace')[:8]!r}, this "
                f"is {PROTOCOL_VERSION}. Install the same version of Potluck on both.",
            )
        packed = properties.get(b"m") or b""
        if len(packed) > BLOB_LIMIT_BYTES:
            raise ValueError(f"record of {len(packed)} bytes; the limit is {BLOB_LIMIT_BYTES}")
        try:
            blob = msgpack.unpackb(packed, strict_map_key=True)
            return cls(
                node_id=NodeId(_text(blob["id"])),
                name=_text(blob["n"]),
                cluster=(properties.get(b"c") or b"").decode(),
                engines=tuple(_text(engine) for engine in blob["e"]),
                accelerator=_text(blob["a"]),
                memory_total_mib=_count(blob["mt"]),
                memory_free_mib=_count(blob["mf"]),
            )
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"malformed record: {error!r}") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"not plain text: {value!r:.40}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"not a count: {value!r:.40}")
    return value
