"""The machines that were let into the pool. Who is not in this list is not let in.

A certificate of the pool is necessary and not enough: its membership must be listed, so that
removing a machine needs nothing from it and holds at once. Pairing a machine again gives it another
membership, and the certificates that it had stay worthless.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from potluck_proto.errors import IdentityError
from potluck_proto.home import write_private
from potluck_proto.identity import Peer, Role
from potluck_proto.ids import NodeId


@dataclass(frozen=True, slots=True)
class Member:
    """One machine in one role."""

    membership: str
    role: Role
    node_id: NodeId
    name: str
    joined_unix_seconds: float
    address: str = ""
    """Where it was when it joined, for a worker; it may have moved since."""

    @property
    def peer(self) -> Peer:
        """Whom its certificate names."""
        return Peer(self.role, self.node_id, self.name, self.membership)


class Members:
    """The list, in a file of the home; read once, as this process alone changes it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, Member] = {}
        try:
            for entry in json.loads(path.read_text()):
                member = Member(**entry | {"role": Role(entry["role"])})
                self._members[member.membership] = member
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise IdentityError(
                f"The list of paired machines, {path}, cannot be read ({error!r}). Delete it and "
                "pair the machines again."
            ) from error

    def __iter__(self) -> Iterator[Member]:
        """Iterate over all members, in the order of their joining."""
        return iter(tuple(self._members.values()))

    def add(self, role: Role, node_id: NodeId, name: str, address: str = "") -> Member:
        """Let a machine in; if it was in already, in this role, its old membership ends."""
        for known in self:
            if (known.role, known.node_id) == (role, node_id):
                del self._members[known.membership]
        member = Member(secrets.token_hex(8), role, node_id, name, time.time(), address)
        self._members[member.membership] = member
        self._save()
        return member

    def remove(self, member: Member) -> None:
        """Let a machine in no more."""
        del self._members[member.membership]
        self._save()

    def named(self, name: str) -> list[Member]:
        """Return the memberships of a machine, by its name or id."""
        return [member for member in self if name in (member.name, member.node_id)]

    def problem(self, peer: Peer) -> str | None:
        """Say in a clause why a machine may not come in; `None` for a member."""
        member = self._members.get(peer.membership)
        if member is not None and (member.role, member.node_id) == (peer.role, peer.node_id):
            return None
        return "was removed from this pool"

    def _save(self) -> None:
        entries = [asdict(member) for member in self]
        write_private(self._path, json.dumps(entries, indent=1).encode())
