"""The part of the gRPC service that says which machines belong to the pool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from potluck_proto import network
from potluck_proto.errors import BadRequest, UnknownNode
from potluck_proto.identity import Role
from potluck_proto.limits import Limits
from potluck_proto.pulse import Pulse
from potluck_proto.refusals import Refusals
from potluck_proto.rules import Context, caller
from potluck_proto.ssh import SSH_SCHEME, ssh_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_scheduler.added import AddedWorkers
from potluck_scheduler.discovery import Discovery
from potluck_scheduler.members import Member
from potluck_scheduler.nodes import Connection, NodeRegistry
from potluck_scheduler.pairing import Pairing

FOUND_SECONDS = 3.0
"""How long `AddNode` waits to see whether a worker answers."""

SSH_FOUND_SECONDS = 50.0


@dataclass(frozen=True, slots=True)
class Gatehouse:
    """The workers, and all that decides which machines belong to the pool."""

    nodes: NodeRegistry
    pairing: Pairing
    discovery: Discovery
    added: AddedWorkers
    refusals: Refusals
    limits: Limits


class NodeCalls(pb_grpc.SchedulerServiceServicer):
    """Lists machines, and lets them in and out.

    Args:
        gatehouse: Who belongs to the pool, and who does not.
        pulse: Beats when the pool changed.
    """

    def __init__(self, gatehouse: Gatehouse, pulse: Pulse) -> None:
        self._nodes = gatehouse.nodes
        self._gatehouse = gatehouse
        self._pairing = gatehouse.pairing
        self._pulse = pulse

    async def ListNodes(
        self, request: pb.ListNodesRequest, context: Context
    ) -> pb.ListNodesResponse:
        """List the workers, the paired machines, the strangers, and who was turned away."""
        return pb.ListNodesResponse(
            nodes=map(node_message, self._nodes.connections()),
            members=map(_member, self._pairing.members),
            strangers=self._gatehouse.discovery.strangers(),
            refusals=self._gatehouse.refusals.recent(),
        )

    async def AddNode(self, request: pb.AddNodeRequest, context: Context) -> pb.AddNodeResponse:
        """Take in a worker by address; say what became of it after a moment."""
        address, wait_seconds = request.address, FOUND_SECONDS
        if address.startswith(SSH_SCHEME):
            address, wait_seconds = ssh_address(address), SSH_FOUND_SECONDS
        elif not address.startswith("unix:"):
            host, port = network.split_host_port(address, network.WORKER_PORT)
            address = network.join_host_port(host, port)
        connection = self._nodes.add(address, "static")
        self._gatehouse.added.add(address)
        deadline = time.monotonic() + wait_seconds
        while not connection.alive and connection.problem is None and time.monotonic() < deadline:
            await self._pulse.wait(deadline - time.monotonic())
        return pb.AddNodeResponse(node=node_message(connection))

    async def RemoveNode(
        self, request: pb.RemoveNodeRequest, context: Context
    ) -> pb.RemoveNodeResponse:
        """Let go of a worker, and end the memberships of its machine."""
        name = request.node
        connection = self._only(name, self._pairing.members.named(name))
        if connection is not None and "local" in connection.sources:
            name = connection.state.name if connection.state else name
            raise BadRequest(
                f"{name} is the pool's own machine, which takes part while its worker runs. "
                f"`potluck down` there stops it; `potluck drain {name}` has it take no work."
            )
        removed = await self._pairing.remove(name)
        if connection is None and removed:
            connection = self._nodes.find(removed[0].node_id)
        elif connection is not None and connection.node_id is not None:
            removed += await self._pairing.remove(connection.node_id)
        if connection is not None:
            self._gatehouse.added.remove(connection.address)
            await self._nodes.forget(connection)
        elif not removed:
            raise _unknown(name)
        return pb.RemoveNodeResponse()

    async def CreateInvite(
        self, request: pb.CreateInviteRequest, context: Context
    ) -> pb.CreateInviteResponse:
        """Return the line by which a machine can join."""
        if request.role not in (Role.WORKER, Role.CLIENT):
            raise BadRequest(f"A machine joins as worker or client, not as {request.role!r}.")
        invite, valid_seconds = await self._pairing.invite(Role(request.role))
        return pb.CreateInviteResponse(line=invite.line(), valid_seconds=valid_seconds)

    async def RenewCertificate(
        self, request: pb.RenewCertificateRequest, context: Context
    ) -> pb.RenewCertificateResponse:
        """Return the certificate that follows the caller's."""
        certificate = self._pairing.renewed(caller.get(), request.certificate_request)
        return pb.RenewCertificateResponse(certificate=certificate)

    def connection(self, node: str) -> Connection:
        """Return a worker by name, id or address. Raises `UnknownNode`, `BadRequest`."""
        connection = self._only(node)
        if connection is None:
            raise _unknown(node)
        return connection

    def _only(self, node: str, members: Sequence[Member] = ()) -> Connection | None:
        """Return the worker that is meant, if there is one. Raises `BadRequest` for several.

        Args:
            node: Its name, id or address.
            members: The paired machines that are called so.
        """
        found = self._nodes.named(node)
        machines = {each.node_id or each.address: each.address for each in found}
        for member in members:
            machines.setdefault(member.node_id, f"{member.role} {member.node_id}")
        if len(machines) > 1:
            raise BadRequest(
                f"Several machines are called {node!r}: {', '.join(machines.values())}. Name one "
                "by its address or id."
            )
        return found[0] if found else None


def node_message(connection: Connection) -> pb.Node:
    """Return a worker as the contract has it."""
    node = pb.Node(
        state=connection.state,
        health=connection.health,
        address=connection.address,
        found_by=sorted(connection.sources),
        age_seconds=time.monotonic() - connection.heard if connection.heard else 0.0,
        round_trip_seconds=connection.round_trip_seconds,
    )
    if connection.state is not None:
        node.state.downloads.extend(arrival.download for arrival in connection.arrivals)
    if connection.problem is not None:
        node.problem.CopyFrom(connection.problem.to_proto())
    return node


def _member(member: Member) -> pb.Member:
    return pb.Member(
        node_id=member.node_id,
        name=member.name,
        role=member.role,
        joined_unix_seconds=member.joined_unix_seconds,
    )


def _unknown(name: str) -> UnknownNode:
    return UnknownNode(f"No node is called {name!r}. `potluck nodes` lists them.")
