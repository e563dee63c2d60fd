"""The zeroconf record by which machines see each other.

Service type `_potluck._tcp.local.`, one instance a daemon, named after the node. The TXT record
holds the protocol version (`v`), the role (`r`), the fingerprint of the pool's authority (`c`,
empty for a machine that belongs to none) and, as msgpack (`m`), coarse facts for people who look at
the network. Never a secret, never what joining needs, no model names.

A port of 0 says that nobody on another machine can call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from potluck_proto import PROTOCOL_VERSION
from potluck_proto.errors import ProtocolMismatch
from potluck_proto.identity import Role
from potluck_proto.ids import NodeId

SERVICE_TYPE = "_potluck._tcp.local."

BLOB_LIMIT_BYTES = 200
"""A TXT entry may have 255 bytes, key and all."""

POOL_LIMIT = 32
ROLES = (Role.WORKER, Role.SCHEDULER)


@dataclass(frozen=True, slots=True)
class Record:
    """What a daemon tells the network of itself."""

    role: Role
    node_id: NodeId
    name: str
    pool: str
    engines: tuple[str, ...] = ()
    accelerator: str = ""
    memory_total_mib: int = 0
    memory_free_mib: int = 0

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
        return {"v": str(PROTOCOL_VERSION), "r": str(self.role), "c": self.pool, "m": packed}

    @classmethod
    def from_properties(cls, properties: Mapping[bytes, bytes | None]) -> Record:
        """Read a TXT record, which anybody on the network may have written.

        Raises:
            ValueError: It is malformed, or of a role that is not announced.
            ProtocolMismatch: It speaks another version.
        """
        version = properties.get(b"v") or b""
        if version != str(PROTOCOL_VERSION).encode():
            raise ProtocolMismatch(
                f"A machine speaks protocol version {version.decode(errors='replace')[:8]!r}, this "
                f"is {PROTOCOL_VERSION}. Install the same version of Potluck on both.",
            )
        role, pool = (_text((properties.get(key) or b"").decode()) for key in (b"r", b"c"))
        packed = properties.get(b"m") or b""
        if role not in ROLES or len(pool) > POOL_LIMIT:
            raise ValueError(f"no role or pool of ours: {role!r:.40}, {pool!r:.40}")
        if len(packed) > BLOB_LIMIT_BYTES:
            raise ValueError(f"record of {len(packed)} bytes; the limit is {BLOB_LIMIT_BYTES}")
        try:
            blob = msgpack.unpackb(packed, strict_map_key=True)
            return cls(
                role=Role(role),
                node_id=NodeId(_text(blob["id"])),
                name=_text(blob["n"]),
                pool=pool,
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
