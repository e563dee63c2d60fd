"""The scheduler's gRPC service: a thin edge over the nodes and the core (and `chat_service`)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from potluck_proto import PROTOCOL_VERSION, __version__, errors, network
from potluck_proto.errors import PotluckError, UnknownNode
from potluck_proto.home import Home
from potluck_proto.ids import GenerationId
from potluck_proto.logs import read_log
from potluck_proto.pulse import Pulse
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.chat_service import ChatService, Context, or_abort
from potluck_scheduler.convert import explanation_to_proto, model_summaries
from potluck_scheduler.core.model import Decision, Request
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.fits import fit_model
from potluck_scheduler.generations import Generation, Generations
from potluck_scheduler.logs import node_of_log, relay
from potluck_scheduler.nodes import Connection, NodeRegistry
from potluck_scheduler.shelf import ChatShelf
from potluck_scheduler.store import ChatStore

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

WATCH_SECONDS = 0.5
"""A watcher hears of changes at most this often."""

WATCH_HEARTBEAT_SECONDS = 2.0
FOUND_SECONDS = 3.0
"""How long `AddNode` waits to see whether a worker answers."""

LOAD_SECONDS = 3600.0


class SchedulerService(ChatService):
    """Serves the viewers of one pool.

    Args:
        home: For the status.
        core: Decides.
        nodes: The workers.
        store: Where questions and answers are kept.
        shelf: Where chats are found.
        generations: The answers.
        pulse: Beats when the pool or a chat changed.
        default_model: From the settings; empty lets the pool decide.

    Attributes:
        chats_revision: Counts changes of chats.
    """

    def __init__(
        self,
        home: Home,
        core: Scheduler,
        nodes: NodeRegistry,
        store: ChatStore,
        shelf: ChatShelf,
        generations: Generations,
        pulse: Pulse,
        default_model: str,
    ) -> None:
        super().__init__(store, shelf, generations, self.chats_changed)
        self._home = home
        self._core = core
        self._nodes = nodes
        self._pulse = pulse
        self._default_model = default_model
        self._started = time.monotonic()
        self.chats_revision = 0

    def chats_changed(self) -> None:
        """Note that a viewer should list the chats again."""
        self.chats_revision += 1
        self._pulse.beat()

    # --- the pool ------------------------------------------------------------------------------

    async def WatchPool(
        self, request: pb.WatchPoolRequest, context: Context
    ) -> AsyncIterator[pb.WatchPoolResponse]:
        """Show the pool at once, then on changes."""
        with self._viewer():
            while True:
                beat = self._pulse.next_beat()
                yield pb.WatchPoolResponse(
                    nodes=map(_node, self._nodes.connections()),
                    models=self._models(),
                    chats_revision=self.chats_revision,
                    active=map(_active, self._generations.active()),
                )
                await asyncio.sleep(WATCH_SECONDS)
                await asyncio.wait([beat], timeout=WATCH_HEARTBEAT_SECONDS - WATCH_SECONDS)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """List the pool's models."""
        return pb.ListModelsResponse(models=self._models())

    async def ListNodes(
        self, request: pb.ListNodesRequest, context: Context
    ) -> pb.ListNodesResponse:
        """List the workers."""
        return pb.ListNodesResponse(nodes=map(_node, self._nodes.connections()))

    async def AddNode(self, request: pb.AddNodeRequest, context: Context) -> pb.AddNodeResponse:
        """Take in a worker by address; say what became of it after a moment."""
        return await or_abort(self._add_node(request.address), context)

    async def _add_node(self, address: str) -> pb.AddNodeResponse:
        if not address.startswith("unix:"):
            network.split_host_port(address)
        connection = self._nodes.add(address, "static")
        deadline = time.monotonic() + FOUND_SECONDS
        while not connection.alive and connection.problem is None and time.monotonic() < deadline:
            await self._pulse.wait(FOUND_SECONDS)
        return pb.AddNodeResponse(node=_node(connection))

    async def RemoveNode(
        self, request: pb.RemoveNodeRequest, context: Context
    ) -> pb.RemoveNodeResponse:
        """Let go of a worker that was added by address."""

        async def remove() -> None:
            await self._nodes.forget(self._connection(request.node))

        await or_abort(remove(), context)
        return pb.RemoveNodeResponse()

    async def DrainNode(
        self, request: pb.DrainNodeRequest, context: Context
    ) -> pb.DrainNodeResponse:
        """Have a worker take no new work, or take it again."""

        async def drain() -> None:
            stub = self._stub(request.node)
            await stub.Drain(worker.DrainRequest(draining=request.draining))

        await or_abort(drain(), context)
        return pb.DrainNodeResponse()

    async def LoadModel(
        self, request: pb.LoadModelRequest, context: Context
    ) -> pb.LoadModelResponse:
        """Load a model where it would be placed now; return when it is in memory."""

        async def load() -> pb.LoadModelResponse:
            node = self._connection(request.node).node_id if request.node else None
            decision = self._decide(request.model, node or request.node)
            explanation = decision.explanation
            if decision.error is not None:
                raise decision.error
            options = types.LoadOptions(
                model=explanation.model.name, quantization=explanation.model.quantization
            )
            stub = self._stub(explanation.node_id or "")
            async for _ in stub.Load(worker.LoadRequest(options=options), timeout=LOAD_SECONDS):
                pass
            return pb.LoadModelResponse(explanation=explanation_to_proto(explanation))

        return await or_abort(load(), context)

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: Context
    ) -> pb.UnloadModelResponse:
        """Free a model on one worker."""

        async def unload() -> None:
            name, _, quantization = request.model.partition(":")
            message = worker.UnloadRequest(model=name, quantization=quantization)
            await self._stub(request.node).Unload(message)

        await or_abort(unload(), context)
        return pb.UnloadModelResponse()

    async def FitModel(self, request: pb.FitModelRequest, context: Context) -> pb.FitModelResponse:
        """Say what a model takes on each node that has it."""
        return await or_abort(fit_model(request, self._nodes, self._default_model), context)

    async def PinModel(self, request: pb.PinModelRequest, context: Context) -> pb.PinModelResponse:
        """Keep a model on one worker when others need room, or no longer."""

        async def pin() -> None:
            name, _, quantization = request.model.partition(":")
            message = worker.PinRequest(
                model=name, quantization=quantization, pinned=request.pinned
            )
            await self._stub(request.node).Pin(message)

        await or_abort(pin(), context)
        return pb.PinModelResponse()

    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        """Return the last decisions, of all or those that looked at a worker."""

        async def decisions() -> list[types.Explanation]:
            node_id = self._connection(request.node).node_id if request.node else ""
            return self._generations.decisions.last(node_id or "", request.limit)

        return pb.ListDecisionsResponse(decisions=await or_abort(decisions(), context))

    async def ReadLogs(
        self, request: pb.ReadLogsRequest, context: Context
    ) -> AsyncIterator[pb.ReadLogsResponse]:
        """Show a log: the scheduler's own, or what a worker has."""
        with self._viewer():
            if request.scheduler:
                own_log = self._home.logs / "scheduler.log"
                async for lines in read_log(own_log, request.lines, request.follow):
                    yield pb.ReadLogsResponse(lines=lines)
                return
            try:
                node = request.node or node_of_log(
                    self._nodes.living_states(), request.model, self._nodes.local_node_id or ""
                )
                state = self._connection(node).state
                async for response in relay(self._stub(node), request, state.name if state else ""):
                    yield response
            except PotluckError as error:
                await errors.abort(context, error)
            except grpc.aio.AioRpcError as error:
                await errors.abort(context, errors.from_rpc(error, "The worker"))

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Say what would be decided now."""
        explanation = self._decide(request.model).explanation
        return pb.ExplainResponse(explanation=explanation_to_proto(explanation))

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """Say how the scheduler is."""
        return pb.GetStatusResponse(
            protocol_version=PROTOCOL_VERSION,
            version=__version__,
            process_id=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            home=str(self._home.root),
            nodes_ready=len(self._nodes.living_states()),
            chats=await or_abort(self._shelf.count(), context),
            active_generations=len(self._generations.active()),
            viewers=self.viewers,
        )

    # --- parts ---------------------------------------------------------------------------------

    def _models(self) -> list[pb.ModelSummary]:
        return model_summaries(self._nodes.living_states(), self._default_model)

    def _decide(self, model: str, node: str = "") -> Decision:
        asked = (node,) if node else ()
        return self._core.explain(Request(GenerationId(""), model, asked))

    def _connection(self, node: str) -> Connection:
        connection = self._nodes.find(node)
        if connection is None:
            raise UnknownNode(f"No node is called {node!r}. `potluck nodes` lists them.")
        return connection

    def _stub(self, node: str) -> WorkerServiceAsyncStub:
        connection = self._connection(node)
        stub = connection.node_id and self._nodes.stub(connection.node_id)
        if not stub:
            raise UnknownNode(f"{node} is not connected now.")
        return stub


def _node(connection: Connection) -> pb.Node:
    node = pb.Node(
        state=connection.state,
        health=connection.health,
        address=connection.address,
        found_by=sorted(connection.sources),
        age_seconds=time.monotonic() - connection.heard if connection.heard else 0.0,
        round_trip_seconds=connection.round_trip_seconds,
    )
    if connection.problem is not None:
        node.problem.CopyFrom(connection.problem.to_proto())
    return node


def _active(generation: Generation) -> pb.ActiveGeneration:
    phase = generation.progress.phase if generation.progress else types.PHASE_DECODING
    return pb.ActiveGeneration(
        generation_id=generation.generation_id,
        chat_id=generation.submission.chat_id,
        answer_message_id=generation.submission.answer_message_id,
        node_name=generation.explanation.node_name if generation.explanation else "",
        phase=phase,
    )
