"""What a reader can have a machine do: the question before, the call, the words after.

The screens and the command line give the same orders.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from potluck_proto.errors import Unreachable
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.words import label

if TYPE_CHECKING:
    from potluck_tui.client import PoolClient

LOAD_SECONDS = 3600.0
"""A large model from a slow disk takes long."""

UNLOAD_SECONDS = 120.0
"""Answers under way get time to end."""

FOLLOW_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Drain:
    """Have a machine take no new work, or take it again."""

    node: str
    """Name, id or address; as in all orders."""
    name: str
    """What people call it."""
    draining: bool = True

    @property
    def question(self) -> str:
        """What to ask before."""
        if not self.draining:
            return f"Have {self.name} take work again?"
        return (
            f"Drain {self.name}? It takes no new work and frees its models; answers under way "
            "get a moment to end."
        )

    @property
    def done(self) -> str:
        """What to say after."""
        return f"{self.name} is draining." if self.draining else f"{self.name} takes work again."

    async def carry_out(self, client: PoolClient) -> None:
        """Give the order. Raises `PotluckError`."""
        request = pb.DrainNodeRequest(node=self.node, draining=self.draining)
        await client.call(client.stub.DrainNode, request)


@dataclass(frozen=True, slots=True)
class Load:
    """Have a model loaded."""

    model: str
    """`name` or `name:quantization`; as in all orders."""
    node: str = ""
    """Empty leaves the choice to the scheduler."""
    name: str = "the best machine for it"

    @property
    def question(self) -> str:
        """What to ask before."""
        return f"Load {self.model} on {self.name}?"

    @property
    def done(self) -> str:
        """What to say after."""
        return f"{self.model} is in memory on {self.name}."

    async def carry_out(self, client: PoolClient) -> Load:
        """Give the order; return it with where the model is in memory. Raises `PotluckError`."""
        request = pb.LoadModelRequest(model=self.model, node=self.node)
        response = await client.call(client.stub.LoadModel, request, LOAD_SECONDS)
        return replace(self, name=clean(response.explanation.node_name) or self.name)


@dataclass(frozen=True, slots=True)
class Unload:
    """Have a model freed."""

    model: str
    node: str
    name: str

    @property
    def question(self) -> str:
        """What to ask before."""
        return f"Unload {self.model} from {self.name}? Answers under way get a moment to end."

    @property
    def done(self) -> str:
        """What to say after."""
        return f"{self.model} is no longer in memory on {self.name}."

    async def carry_out(self, client: PoolClient) -> None:
        """Give the order; it is done when the memory is free. Raises `PotluckError`."""
        request = pb.UnloadModelRequest(model=self.model, node=self.node)
        await client.call(client.stub.UnloadModel, request, UNLOAD_SECONDS)


@dataclass(frozen=True, slots=True)
class Pin:
    """Have a model stay in memory when others need room, or no longer."""

    model: str
    node: str
    name: str
    pinned: bool = True

    @property
    def question(self) -> str:
        """What to ask before."""
        if not self.pinned:
            return f"Let {self.model} give way on {self.name} when others need room?"
        return f"Keep {self.model} in memory on {self.name}, also when others need room?"

    @property
    def done(self) -> str:
        """What to say after."""
        what = "stays in memory" if self.pinned else "gives way when others need room"
        return f"{self.model} {what} on {self.name}."

    async def carry_out(self, client: PoolClient) -> None:
        """Give the order. Raises `PotluckError`."""
        request = pb.PinModelRequest(model=self.model, node=self.node, pinned=self.pinned)
        await client.call(client.stub.PinModel, request)


@dataclass(frozen=True, slots=True)
class Remove:
    """Let go of a machine."""

    node: str
    name: str

    @property
    def question(self) -> str:
        """What to ask before."""
        return f"Remove {self.name} from the pool?"

    @property
    def done(self) -> str:
        """What to say after."""
        return f"{self.name} is removed."

    async def carry_out(self, client: PoolClient) -> None:
        """Give the order. Raises `PotluckError`."""
        await client.call(client.stub.RemoveNode, pb.RemoveNodeRequest(node=self.node))


@dataclass(frozen=True, slots=True)
class _OfHub:
    """An order about a model of the hub."""

    repository: str
    variant: str
    node: str

    @property
    def model(self) -> str:
        """What a person types to mean the model: `MAKER/NAME:VARIANT`."""
        return label(self.repository, self.variant)


@dataclass(frozen=True, slots=True)
class Fetch(_OfHub):
    """Have a machine fetch a model. Whoever leaves ends nothing."""

    size: str = ""
    """In words, where it is known."""

    @property
    def question(self) -> str:
        """What to ask before."""
        size = f", {self.size}," if self.size else ""
        return f"Fetch {self.model}{size} to {self.node or 'the machine with the most memory'}?"

    @property
    def done(self) -> str:
        """What to say after."""
        return f"{self.model} is fetched."

    async def carry_out(self, client: PoolClient) -> None:
        """Give the order; it is done when the model is there. Raises `PotluckError`.

        Where the connection breaks the fetch goes on, and is followed again.
        """
        request = pb.PullModelRequest(
            repository=self.repository, variant=self.variant, node=self.node
        )
        begun = False
        while True:
            try:
                async for response in client.pull(request):
                    # Where no node was named, this one does it.
                    begun, request.node = True, response.node_name
            except Unreachable:
                if not begun:
                    raise
                await asyncio.sleep(FOLLOW_AGAIN_SECONDS)
            else:
                return


@dataclass(frozen=True, slots=True)
class StopFetch(_OfHub):
    """End the fetch of a model."""

    @property
    def question(self) -> str:
        """What to ask before."""
        return f"Stop the fetch of {self.model} to {self.node}? What came is kept."

    @property
    def done(self) -> str:
        """What to say after."""
        return f"The fetch of {self.model} is stopped; fetched again, it goes on where it was."

    async def carry_out(self, client: PoolClient) -> None:
        """Give the order. Raises `PotluckError`."""
        request = pb.StopPullModelRequest(
            repository=self.repository, variant=self.variant, node=self.node
        )
        await client.call(client.stub.StopPullModel, request, UNLOAD_SECONDS)


Order = Drain | Load | Unload | Pin | Remove | Fetch | StopFetch
