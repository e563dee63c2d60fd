"""The part of the gRPC service that is about files of models: it asks the nodes that have them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc

from potluck_proto.errors import BadRequest, LostError, NodeLost, PotluckError, abort, from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.arrivals import Arrival
from potluck_scheduler.benchmarks import Benchmarks
from potluck_scheduler.calls import failures_in_words
from potluck_scheduler.catalogue import Catalogue, keep_renewed
from potluck_scheduler.copies import HASH_SECONDS, copy
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.core.speeds import Speeds
from potluck_scheduler.edge import Context, or_abort
from potluck_scheduler.fits import having_model, nodes_called
from potluck_scheduler.hub import HUB_SECONDS, Neighbour, Neighbours, add_fit
from potluck_scheduler.hub_search import Search
from potluck_scheduler.nodes import NodeRegistry
from potluck_scheduler.recommend import Way, recommend
from potluck_scheduler.renewal import renew

if TYPE_CHECKING:
    from potluck_proto.v1.worker_pb2_grpc import WorkerServiceAsyncStub

log = logging.getLogger(__name__)

DESCRIBE_SECONDS = 30.0
FOUND, MOST_FOUND = 20, 100
"""Repositories of an answer of the hub: where nobody said how many, and at most."""

REMOVE_SECONDS = 120.0
"""Answers under way get time to end first."""


class LibraryCalls(pb_grpc.SchedulerServiceServicer):
    """Describes, fetches, copies, deletes and tidies up.

    Args:
        nodes: The workers.
        default_model: From the settings; empty lets the pool decide.
        home: May have a catalogue of its own.
        speeds: How fast models are here, as learned.
        benchmarks: How fast they were when somebody measured it.
    """

    def __init__(
        self,
        nodes: NodeRegistry,
        default_model: str,
        home: Home,
        speeds: Speeds,
        benchmarks: Benchmarks,
    ) -> None:
        self._library_home = home
        self._speeds = speeds
        self._benchmarks = benchmarks
        self._registry = nodes
        self._configured_default = default_model

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """Say all that a model's files say."""
        return await or_abort(self._describe(request), context)

    async def _describe(self, request: pb.DescribeModelRequest) -> pb.DescribeModelResponse:
        """Return what a node says of a model: one that can use it before one that cannot."""
        having = having_model(request.model, request.node, self._registry, self._configured_default)
        places = _places(*having)
        _, _, node, key = max(places, key=lambda place: place[:2])
        response = await self._worker(node).Inspect(
            worker.InspectRequest(
                model=key.name, quantization=key.quantization, hashes=request.hashes
            ),
            timeout=HASH_SECONDS if request.hashes else DESCRIBE_SECONDS,
        )
        return pb.DescribeModelResponse(detail=response.detail, node_name=node.name)

    async def RemoveModel(
        self, request: pb.RemoveModelRequest, context: Context
    ) -> pb.RemoveModelResponse:
        """Delete a model's files on one node."""
        return await or_abort(self._remove(request), context)

    async def _remove(self, request: pb.RemoveModelRequest) -> pb.RemoveModelResponse:
        if not request.model:
            raise BadRequest("Say which model to delete.")
        keys, having = having_model(request.model, request.node, self._registry, "")
        if len(having) > 1:
            names = ", ".join(sorted(node.name for node in having))
            raise BadRequest(
                f"{request.model} is on several nodes: {names}. Say which with --node."
            )
        asked = worker.RemoveRequest(
            model=keys[0].name,
            quantization=keys[0].quantization if len(keys) == 1 else "",
            dry_run=request.dry_run,
        )
        response = await self._worker(having[0]).Remove(asked, timeout=REMOVE_SECONDS)
        return pb.RemoveModelResponse(node_name=having[0].name, removals=response.removals)

    async def PruneNodes(
        self, request: pb.PruneNodesRequest, context: Context
    ) -> pb.PruneNodesResponse:
        """Delete what nobody needs."""
        return await or_abort(self._prune(request), context)

    async def _prune(self, request: pb.PruneNodesRequest) -> pb.PruneNodesResponse:
        asked = nodes_called(request.node, self._registry)
        pruned = await asyncio.gather(*(self._prune_node(n, request.dry_run) for n in asked))
        return pb.PruneNodesResponse(nodes=pruned)

    async def _prune_node(self, node: Node, dry_run: bool) -> pb.NodePrune:
        answer = pb.NodePrune(node_name=node.name)
        try:
            response = await self._worker(node).Prune(
                worker.PruneRequest(dry_run=dry_run), timeout=REMOVE_SECONDS
            )
            answer.removals.extend(response.removals)
        except grpc.aio.AioRpcError as error:
            answer.problem.CopyFrom(from_rpc(error, node.name).to_proto())
        except NodeLost as error:
            answer.problem.CopyFrom(error.to_proto())
        return answer

    async def ChooseTemplate(
        self, request: pb.ChooseTemplateRequest, context: Context
    ) -> pb.ChooseTemplateResponse:
        """Give a model a prompt format wherever it is."""
        return await or_abort(self._choose_template(request), context)

    async def _choose_template(
        self, request: pb.ChooseTemplateRequest
    ) -> pb.ChooseTemplateResponse:
        if not request.model:
            raise BadRequest("Say for which model.")
        keys, having = having_model(request.model, request.node, self._registry, "")
        asked = worker.SetTemplateRequest(
            model=keys[0].name,
            quantization=keys[0].quantization if ":" in request.model else "",
            template=request.template,
        )

        async def tell(node: Node) -> pb.NodeTemplate:
            answer = pb.NodeTemplate(node_name=node.name)
            try:
                with failures_in_words(node.name):
                    await self._worker(node).SetTemplate(asked, timeout=REMOVE_SECONDS)
            except PotluckError as error:
                answer.problem.CopyFrom(error.to_proto())
            return answer

        return pb.ChooseTemplateResponse(nodes=await asyncio.gather(*map(tell, having)))

    async def Recommend(
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Say what of the catalogue would run on this pool."""
        return await or_abort(self._recommend(request), context)

    async def _recommend(self, request: pb.RecommendRequest) -> pb.RecommendResponse:
        nodes = nodes_called(request.node, self._registry)
        catalogue = await asyncio.to_thread(Catalogue.read, self._library_home)
        ways = recommend(catalogue.rows, nodes, self._speeds, request.context_length, request.use)
        return pb.RecommendResponse(
            recommendations=map(self._recommendation, ways), catalogue_date=catalogue.date
        )

    def _recommendation(self, way: Way) -> pb.Recommendation:
        row = way.row
        return pb.Recommendation(
            name=row.name,
            repository=row.repository,
            quantization=way.quantization,
            node_name=way.node.name,
            context_length=way.context_length,
            parameter_count=row.parameters,
            active_parameter_count=row.active,
            memory_needed_bytes=way.needed_bytes,
            file_bytes=way.file_bytes,
            tokens_per_second=way.tokens_per_second,
            measured=way.measured,
            partly_offloaded=way.partly_offloaded,
            present=way.present,
            licence=row.licence,
            uses=row.uses,
            source=row.source,
            source_date=row.date,
            downloads=row.downloads,
            benchmark=self._benchmarks.on(way.node.node_id, way.key),
        )

    async def RefreshCatalogue(
        self, request: pb.RefreshCatalogueRequest, context: Context
    ) -> pb.RefreshCatalogueResponse:
        """Ask the hub what is new of the catalogue's rows."""
        return await or_abort(self._refresh(), context)

    async def _refresh(self) -> pb.RefreshCatalogueResponse:
        node = self._fetching("")
        catalogue = await asyncio.to_thread(Catalogue.read, self._library_home)

        async def ask(repository: str) -> worker.ListHubResponse:
            asked = worker.ListHubRequest(repository=repository)
            with failures_in_words(node.name):
                return await self._worker(node).ListHub(asked, timeout=HUB_SECONDS)

        renewed, failed = await renew(catalogue, ask)
        await asyncio.to_thread(keep_renewed, self._library_home, renewed)
        problems = {repository: error.to_proto() for repository, error in failed.items()}
        return pb.RefreshCatalogueResponse(renewed=len(renewed), problems=problems)

    async def SearchModels(
        self, request: pb.SearchModelsRequest, context: Context
    ) -> pb.SearchModelsResponse:
        """Search the hub."""

        async def search() -> pb.SearchModelsResponse:
            wanted, limit = Search.read(request.query), request.limit or FOUND
            most = MOST_FOUND if wanted.wishes else limit
            asked = worker.SearchHubRequest(query=wanted.words, limit=most)
            response = await self._worker(self._fetching("")).SearchHub(asked, timeout=HUB_SECONDS)
            nodes = nodes_called("", self._registry)
            for repository in response.repositories:
                add_fit(repository, nodes)
            found = wanted.of(response.repositories)[:limit]
            return pb.SearchModelsResponse(repositories=found)

        return await or_abort(search(), context)

    async def ListRepository(
        self, request: pb.ListRepositoryRequest, context: Context
    ) -> pb.ListRepositoryResponse:
        """Say what can be fetched of a repository."""

        async def listed() -> pb.ListRepositoryResponse:
            node = self._fetching(request.node)
            asked = worker.ListHubRequest(repository=request.repository)
            response = await self._worker(node).ListHub(asked, timeout=HUB_SECONDS)
            nodes = nodes_called(request.node, self._registry)
            for variant in response.variants:
                add_fit(variant, nodes)
            return pb.ListRepositoryResponse(
                repository=response.repository, variants=response.variants, node_name=node.name
            )

        return await or_abort(listed(), context)

    async def PullModel(
        self, request: pb.PullModelRequest, context: Context
    ) -> AsyncIterator[pb.PullModelResponse]:
        """Bring a model to a node, from a neighbour or the hub; say how far it is."""
        try:
            node = self._fetching(request.node)
            async with aclosing(self._pull(request, node)) as responses:
                async for response in responses:
                    yield response
        except PotluckError as error:
            await abort(context, error)
        except grpc.aio.AioRpcError as error:
            await abort(context, from_rpc(error, "The worker"))

    async def _pull(
        self, request: pb.PullModelRequest, node: Node
    ) -> AsyncGenerator[pb.PullModelResponse, None]:
        arrival = Arrival.of(request.repository, request.variant)
        with self._registry.arriving(node.node_id, arrival):
            async with aclosing(self._from_a_neighbour(request, node, arrival)) as near:
                async for message in near:
                    yield message
                    if message.HasField("model"):
                        return
            arrival.check()
        asked = worker.PullRequest(repository=request.repository, variant=request.variant)
        call = self._worker(node).Pull(asked)
        try:
            async for response in call:
                message = pb.PullModelResponse(node_name=node.name)
                if response.HasField("model"):
                    message.model.CopyFrom(response.model)
                else:
                    message.download.CopyFrom(response.download)
                yield message
        finally:
            call.cancel()

    async def _from_a_neighbour(
        self, request: pb.PullModelRequest, node: Node, arrival: Arrival
    ) -> AsyncGenerator[pb.PullModelResponse, None]:
        """Bring a model from the node that has it; yield no model where none does."""
        near = None
        async with aclosing(Neighbours(self._registry).having(request, node)) as search:
            async for found in search:
                if isinstance(found, Neighbour):
                    near = found
                else:
                    yield pb.PullModelResponse(node_name=node.name, download=arrival.note(found))
        if near is None:
            return
        said = pb.PullModelResponse(
            node_name=node.name, from_node=near.node.name, by_name=near.by_name
        )
        if near.node.node_id == node.node_id:
            said.model.CopyFrom(self._described(node, near.key))
            yield said
            return
        copying = copy(near.key, near.worker, self._worker(node), near.node.name, near.names)
        try:
            async with aclosing(copying) as events:
                async for event in events:
                    _add_event(said, event, arrival)
                    yield said
        except (LostError, grpc.aio.AioRpcError) as error:
            if near.by_name:
                raise
            log.warning("not copied from %s, so fetched: %s", near.node.name, error)

    def _described(self, node: Node, key: ModelKey) -> types.ModelDescription:
        """Return what a node says of one of its models. Raises `NodeLost`."""
        for state in self._registry.living_states():
            for model in state.models:
                if (state.node_id, model.name, model.quantization) == (node.node_id, *key):
                    return model
        raise NodeLost(f"{node.name} is not connected any more.")

    async def StopPullModel(
        self, request: pb.StopPullModelRequest, context: Context
    ) -> pb.StopPullModelResponse:
        """End a fetch; what came is kept."""

        async def stop() -> None:
            node = self._fetching(request.node)
            if self._registry.stop_arrival(node.node_id, request.repository, request.variant):
                return
            asked = worker.StopPullRequest(repository=request.repository, variant=request.variant)
            await self._worker(node).StopPull(asked, timeout=HUB_SECONDS)

        await or_abort(stop(), context)
        return pb.StopPullModelResponse()

    async def CopyModel(
        self, request: pb.CopyModelRequest, context: Context
    ) -> AsyncIterator[pb.CopyModelResponse]:
        """Copy a model from one node to another; say how far it is."""
        try:
            key, source, target = self._way_of_copy(request)
            arrival = Arrival.of(str(key))
            copying = copy(key, self._worker(source), self._worker(target), source.name)
            with self._registry.arriving(target.node_id, arrival):
                async with aclosing(copying) as events:
                    async for event in events:
                        message = pb.CopyModelResponse(from_node=source.name, to_node=target.name)
                        _add_event(message, event, arrival)
                        yield message
        except PotluckError as error:
            await abort(context, error)
        except grpc.aio.AioRpcError as error:
            await abort(context, from_rpc(error, "The worker"))

    def _way_of_copy(self, request: pb.CopyModelRequest) -> tuple[ModelKey, Node, Node]:
        """Return what is to be copied, from where and to where. Raises `PotluckError`."""
        if not request.to_node:
            raise BadRequest("Say to which machine: potluck copy MODEL NODE.")
        (target,) = nodes_called(request.to_node, self._registry)
        keys, having = having_model(request.model, request.from_node, self._registry, "")
        if any(keys[0] in node.files for node in having if node == target):
            raise BadRequest(f"{target.name} has {keys[0]} already.")
        for key in keys:
            for node in having:
                if key in node.files and node.node_id != target.node_id:
                    return key, node, target
        raise BadRequest(f"Only {target.name} has {request.model}.")

    def _fetching(self, name: str) -> Node:
        """Return the node that fetches: the one that is named, else that with the most memory free.

        Raises `NoNodes` and `UnknownNode`.
        """
        nodes = nodes_called(name, self._registry)

        def worth(node: Node) -> tuple[bool, int]:
            return not node.draining, node.memory_free_bytes + node.spill_free_bytes

        return max(nodes, key=worth)

    def _worker(self, node: Node) -> WorkerServiceAsyncStub:
        stub = self._registry.stub(node.node_id)
        if stub is None:
            raise NodeLost(f"{node.name} is not connected any more.")
        return stub


def _add_event(
    message: pb.PullModelResponse | pb.CopyModelResponse,
    event: types.Download | types.ModelDescription,
    arrival: Arrival,
) -> None:
    """Put what a copy says into a message. Raises `HubError` where it was stopped."""
    if isinstance(event, types.ModelDescription):
        message.model.CopyFrom(event)
    else:
        message.download.CopyFrom(arrival.note(event))


def _places(keys: list[ModelKey], having: list[Node]) -> list[tuple[bool, float, Node, ModelKey]]:
    """Return where the models are: whether they can be used there, and how good they are."""
    return [
        (model.problem is None, model.bits_per_weight, node, key)
        for node in having
        for key in keys
        if (model := node.files.get(key)) is not None
    ]
