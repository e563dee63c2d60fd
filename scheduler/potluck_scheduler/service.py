"""The scheduler's gRPC service: a thin edge over the answers, the store, the nodes and the core."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING

from potluck_proto import PROTOCOL_VERSION, __version__
from potluck_proto.errors import NotEnoughMemory, UnknownNode
from potluck_proto.home import Home
from potluck_proto.ids import GenerationId, NodeId
from potluck_proto.logs import read_log
from potluck_proto.pulse import Pulse
from potluck_proto.rules import Context
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.answer import Answer
from potluck_scheduler.bench import Bench
from potluck_scheduler.benchmarks import Benchmarks
from potluck_scheduler.chat_service import ChatService
from potluck_scheduler.conductor import Conductor
from potluck_scheduler.convert import explanation_to_proto, model_summaries
from potluck_scheduler.core.explanation import Decision
from potluck_scheduler.core.model import ModelKey, Request
from potluck_scheduler.database import Database
from potluck_scheduler.fits import fit_model
from potluck_scheduler.generations import Generations
from potluck_scheduler.library_service import LibraryCalls
from potluck_scheduler.loads import load_model
from potluck_scheduler.logs import node_of_log, relay
from potluck_scheduler.named import having_model
from potluck_scheduler.nodes_service import Gatehouse, NodeCalls, node_message
from potluck_scheduler.settings import SchedulerSettings

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

WATCH_SECONDS = 0.5
"""A watcher hears of changes at most this often."""

WATCH_HEARTBEAT_SECONDS = 2.0


class SchedulerService(ChatService, NodeCalls, LibraryCalls):
    """Serves the viewers of one pool.

    Args:
        home: For the status.
        settings: How the scheduler behaves.
        conductor: Tells the core.
        database: Where chats and answers are.
        generations: The answers.
        pulse: Beats when the pool or a chat changed.
        gatehouse: Who belongs to the pool, and what a caller may ask for.
        benchmarks: What was measured of models.

    Attributes:
        chats_revision: Counts changes of chats.
        viewers: Open streams of viewers.
    """

    def __init__(
        self,
        home: Home,
        settings: SchedulerSettings,
        conductor: Conductor,
        database: Database,
        generations: Generations,
        pulse: Pulse,
        gatehouse: Gatehouse,
        benchmarks: Benchmarks,
    ) -> None:
        ChatService.__init__(self, database, generations, gatehouse.limits, self.chats_changed)
        NodeCalls.__init__(self, gatehouse, pulse)
        LibraryCalls.__init__(
            self,
            gatehouse.nodes,
            settings.default_model,
            home,
            conductor.core.speeds,
            benchmarks,
        )
        self._settings = settings
        self._conductor = conductor
        self._database = database
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
                    nodes=map(node_message, self._nodes.connections()),
                    models=self._models(),
                    chats_revision=self.chats_revision,
                    active=map(_active, self._generations.active()),
                    strangers=self._gatehouse.discovery.strangers(),
                    problem=self._database.problem,
                )
                await asyncio.sleep(WATCH_SECONDS)
                await asyncio.wait([beat], timeout=WATCH_HEARTBEAT_SECONDS - WATCH_SECONDS)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """List the pool's models."""
        return pb.ListModelsResponse(models=self._models())

    async def DrainNode(
        self, request: pb.DrainNodeRequest, context: Context
    ) -> pb.DrainNodeResponse:
        """Have a worker take no new work, or take it again."""
        with self._calling(request.node) as stub:
            await stub.Drain(worker.DrainRequest(draining=request.draining))
        return pb.DrainNodeResponse()

    async def LoadModel(
        self, request: pb.LoadModelRequest, context: Context
    ) -> pb.LoadModelResponse:
        """Load a model where it would be placed now; return when it is in memory."""
        node_id, decision = self._place(request.model, request.node)
        explanation = decision.explanation
        await load_model(self._nodes, node_id, explanation.model, decision.evict)
        return pb.LoadModelResponse(explanation=explanation_to_proto(explanation))

    async def BenchModel(
        self, request: pb.BenchModelRequest, context: Context
    ) -> AsyncIterator[pb.BenchModelResponse]:
        """Measure a model where it would be placed now; keep and teach what was found."""
        with self._viewer():
            # Placing would say that it fits nowhere; that a node lacks it is said better here.
            having_model(request.model, request.node, self._nodes, self._settings.default_model)
            node_id, decision = self._place(request.model, request.node)
            name, key = decision.explanation.node_name, decision.explanation.model
            node = self._conductor.core.node(node_id)
            assert node is not None
            bench = Bench(self._nodes, node_id, node.files[key])
            bench.check_idle()
            yield pb.BenchModelResponse(node_name=name, progress=pb.BenchmarkProgress())
            await load_model(self._nodes, node_id, key, decision.evict)
            async with aclosing(bench.run()) as found:
                async for progress in found:
                    yield pb.BenchModelResponse(node_name=name, progress=progress)
            for lesson in bench.lessons:
                self._conductor.tell(lesson)
            await self._benchmarks.keep(bench.benchmark)
            self._pulse.beat()
            yield pb.BenchModelResponse(node_name=name, benchmark=bench.benchmark)

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: Context
    ) -> pb.UnloadModelResponse:
        """Free a model on one worker."""
        name, _, quantization = request.model.partition(":")
        with self._calling(request.node) as stub:
            await stub.Unload(worker.UnloadRequest(model=name, quantization=quantization))
        return pb.UnloadModelResponse()

    async def FitModel(self, request: pb.FitModelRequest, context: Context) -> pb.FitModelResponse:
        """Say what a model takes on each node that has it."""
        return await fit_model(request, self._nodes, self._settings.default_model)

    async def PinModel(self, request: pb.PinModelRequest, context: Context) -> pb.PinModelResponse:
        """Keep a model on one worker when others need room, or no longer."""
        name, _, quantization = request.model.partition(":")
        asked = worker.PinRequest(model=name, quantization=quantization, pinned=request.pinned)
        with self._calling(request.node) as stub:
            await stub.Pin(asked)
        return pb.PinModelResponse()

    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        """Return the last decisions, of all or those that looked at a worker."""
        node_id = self.connection(request.node).node_id if request.node else ""
        decisions = self._conductor.decisions.last(node_id or "", request.limit)
        return pb.ListDecisionsResponse(decisions=decisions)

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
            node = request.node or node_of_log(
                self._nodes.living_states(), request.model, self._nodes.local_node_id or ""
            )
            async with aclosing(relay(self._nodes, self._node_id(node), request)) as responses:
                async for response in responses:
                    yield response

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Say what would be decided now."""
        decision = self._decide(
            Request(
                GenerationId(""),
                request.model,
                tuple(request.nodes),
                tuple(request.tags),
                context_tokens=request.context_length,
            )
        )
        return pb.ExplainResponse(explanation=explanation_to_proto(decision.explanation))

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
            chats=await self._shelf.count(),
            active_generations=len(self._generations.active()),
            viewers=self.viewers,
            problem=self._database.problem,
        )

    # --- parts ---------------------------------------------------------------------------------

    def _models(self) -> list[pb.ModelSummary]:
        summaries = model_summaries(self._nodes.living_states(), self._settings.default_model)
        for summary in summaries:
            key = ModelKey(summary.description.name, summary.description.quantization)
            summary.benchmarks.extend(self._benchmarks.of(key))
        return summaries

    def _place(self, model: str, node: str) -> tuple[NodeId, Decision]:
        """Return where a model would be placed now: anywhere, or on the node that is named.

        Raises:
            PotluckError: Nowhere.
        """
        asked = self.connection(node).node_id if node else None
        nodes = (asked or node,) if node else ()
        decision = self._decide(Request(GenerationId(""), model, nodes))
        explanation = decision.explanation
        if decision.error is not None:
            raise decision.error
        if explanation.node_id is None:
            raise NotEnoughMemory(f"Not now: {explanation.summary}. Try again later.")
        return explanation.node_id, decision

    def _decide(self, request: Request) -> Decision:
        return self._conductor.core.explain(request)

    def _calling(self, node: str) -> AbstractContextManager[WorkerServiceAsyncStub]:
        return self._nodes.calling(self._node_id(node))

    def _node_id(self, node: str) -> NodeId:
        """Return the id of a worker by name, id or address. Raises `UnknownNode`."""
        node_id = self.connection(node).node_id
        if node_id is None:
            raise UnknownNode(f"{node} is not connected now.")
        return node_id


def _active(answer: Answer) -> pb.ActiveGeneration:
    return pb.ActiveGeneration(
        generation_id=answer.generation_id,
        chat_id=answer.submission.chat_id,
        answer_message_id=answer.submission.answer_message_id,
        node_name=answer.node_name,
        phase=answer.progress.phase if answer.progress else types.PHASE_DECODING,
    )
