"""The part of the gRPC service that is about files of models: it asks the nodes that have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from potluck_proto.errors import BadRequest, PotluckError
from potluck_proto.home import Home
from potluck_proto.rules import Context
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import scheduler_pb2_grpc as pb_grpc
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.arrivals import Arrival
from potluck_scheduler.benchmarks import Benchmarks
from potluck_scheduler.catalogue import Catalogue, keep_renewed
from potluck_scheduler.copies import HASH_SECONDS, copy
from potluck_scheduler.core.model import ModelKey, Node
from potluck_scheduler.core.speeds import Speeds
from potluck_scheduler.hub import HUB_SECONDS, add_fit
from potluck_scheduler.hub_search import Search
from potluck_scheduler.named import having_model, nodes_called
from potluck_scheduler.nodes import NodeRegistry
from potluck_scheduler.pulls import pull
from potluck_scheduler.recommend import Way, recommend
from potluck_scheduler.renewal import renew
from potluck_scheduler.under_way import UnderWay

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
        self._home = home
        self._speeds = speeds
        self._benchmarks = benchmarks
        self._nodes = nodes
        self._default_model = default_model
        self._pulls = UnderWay[pb.PullModelResponse]()
        self._copies = UnderWay[pb.CopyModelResponse]()

    @property
    def bringing(self) -> bool:
        """Say whether models are on their way to a node."""
        return bool(self._pulls or self._copies)

    async def close(self) -> None:
        """Leave models that are on their way where they are; what a node fetches goes on."""
        await self._pulls.close()
        await self._copies.close()

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """Say all that a model's files say: on a node that can use it before one that cannot."""
        having = having_model(request.model, request.node, self._nodes, self._default_model)
        places = _places(*having)
        _, _, node, key = max(places, key=lambda place: place[:2])
        asked = worker.InspectRequest(
            model=key.name, quantization=key.quantization, hashes=request.hashes
        )
        seconds = HASH_SECONDS if request.hashes else DESCRIBE_SECONDS
        with self._nodes.calling(node.node_id) as stub:
            response = await stub.Inspect(asked, timeout=seconds)
        return pb.DescribeModelResponse(detail=response.detail, node_name=node.name)

    async def RemoveModel(
        self, request: pb.RemoveModelRequest, context: Context
    ) -> pb.RemoveModelResponse:
        """Delete a model's files on one node."""
        if not request.model:
            raise BadRequest("Say which model to delete.")
        keys, having = having_model(request.model, request.node, self._nodes, "")
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
        with self._nodes.calling(having[0].node_id) as stub:
            response = await stub.Remove(asked, timeout=REMOVE_SECONDS)
        return pb.RemoveModelResponse(node_name=having[0].name, removals=response.removals)

    async def PruneNodes(
        self, request: pb.PruneNodesRequest, context: Context
    ) -> pb.PruneNodesResponse:
        """Delete what nobody needs."""
        asked = worker.PruneRequest(dry_run=request.dry_run)

        async def prune(node: Node) -> pb.NodePrune:
            answer = pb.NodePrune(node_name=node.name)
            try:
                with self._nodes.calling(node.node_id) as stub:
                    response = await stub.Prune(asked, timeout=REMOVE_SECONDS)
                answer.removals.extend(response.removals)
            except PotluckError as error:
                answer.problem.CopyFrom(error.to_proto())
            return answer

        nodes = nodes_called(request.node, self._nodes)
        return pb.PruneNodesResponse(nodes=await asyncio.gather(*map(prune, nodes)))

    async def ChooseTemplate(
        self, request: pb.ChooseTemplateRequest, context: Context
    ) -> pb.ChooseTemplateResponse:
        """Give a model a prompt format wherever it is."""
        if not request.model:
            raise BadRequest("Say for which model.")
        keys, having = having_model(request.model, request.node, self._nodes, "")
        asked = worker.SetTemplateRequest(
            model=keys[0].name,
            quantization=keys[0].quantization if ":" in request.model else "",
            template=request.template,
        )

        async def tell(node: Node) -> pb.NodeTemplate:
            answer = pb.NodeTemplate(node_name=node.name)
            try:
                with self._nodes.calling(node.node_id) as stub:
                    await stub.SetTemplate(asked, timeout=REMOVE_SECONDS)
            except PotluckError as error:
                answer.problem.CopyFrom(error.to_proto())
            return answer

        return pb.ChooseTemplateResponse(nodes=await asyncio.gather(*map(tell, having)))

    async def Recommend(
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Say what of the catalogue would run on this pool."""
        nodes = nodes_called(request.node, self._nodes)
        catalogue = await asyncio.to_thread(Catalogue.read, self._home)
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
        node = self._fetching("")
        catalogue = await asyncio.to_thread(Catalogue.read, self._home)

        async def ask(repository: str) -> worker.ListHubResponse:
            asked = worker.ListHubRequest(repository=repository)
            with self._nodes.calling(node.node_id) as stub:
                return await stub.ListHub(asked, timeout=HUB_SECONDS)

        renewed, failed = await renew(catalogue, ask)
        await asyncio.to_thread(keep_renewed, self._home, renewed)
        problems = {repository: error.to_proto() for repository, error in failed.items()}
        return pb.RefreshCatalogueResponse(renewed=len(renewed), problems=problems)

    async def SearchModels(
        self, request: pb.SearchModelsRequest, context: Context
    ) -> pb.SearchModelsResponse:
        """Search the hub."""
        wanted, limit = Search.read(request.query), request.limit or FOUND
        most = MOST_FOUND if wanted.wishes else limit
        asked = worker.SearchHubRequest(query=wanted.words, limit=most)
        with self._nodes.calling(self._fetching("").node_id) as stub:
            response = await stub.SearchHub(asked, timeout=HUB_SECONDS)
        nodes = nodes_called("", self._nodes)
        for repository in response.repositories:
            add_fit(repository, nodes)
        return pb.SearchModelsResponse(repositories=wanted.of(response.repositories)[:limit])

    async def ListRepository(
        self, request: pb.ListRepositoryRequest, context: Context
    ) -> pb.ListRepositoryResponse:
        """Say what can be fetched of a repository."""
        node = self._fetching(request.node)
        asked = worker.ListHubRequest(repository=request.repository)
        with self._nodes.calling(node.node_id) as stub:
            response = await stub.ListHub(asked, timeout=HUB_SECONDS)
        nodes = nodes_called(request.node, self._nodes)
        for variant in response.variants:
            add_fit(variant, nodes)
        return pb.ListRepositoryResponse(
            repository=response.repository, variants=response.variants, node_name=node.name
        )

    async def PullModel(
        self, request: pb.PullModelRequest, context: Context
    ) -> AsyncIterator[pb.PullModelResponse]:
        """Bring a model to a node, from a neighbour or the hub; say how far it is."""
        node = self._fetching(request.node)
        called = (node.node_id, request.repository.lower(), request.variant.lower())
        pulling = self._pulls.follow(called, lambda: pull(self._nodes, request, node))
        async with aclosing(pulling) as responses:
            async for response in responses:
                yield response

    async def StopPullModel(
        self, request: pb.StopPullModelRequest, context: Context
    ) -> pb.StopPullModelResponse:
        """End a fetch; what came is kept."""
        node, called = self._fetching(request.node), (request.repository, request.variant)
        if not self._nodes.stop_arrival(node.node_id, *called):
            asked = worker.StopPullRequest(repository=request.repository, variant=request.variant)
            with self._nodes.calling(node.node_id) as stub:
                await stub.StopPull(asked, timeout=HUB_SECONDS)
        return pb.StopPullModelResponse()

    async def CopyModel(
        self, request: pb.CopyModelRequest, context: Context
    ) -> AsyncIterator[pb.CopyModelResponse]:
        """Copy a model from one node to another; say how far it is."""
        key, source, target = self._way_of_copy(request)
        copying = self._copies.follow(
            (target.node_id, key), lambda: self._copy(key, source, target)
        )
        async with aclosing(copying) as responses:
            async for response in responses:
                yield response

    async def _copy(
        self, key: ModelKey, source: Node, target: Node
    ) -> AsyncGenerator[pb.CopyModelResponse, None]:
        arrival = Arrival.of(str(key))
        with self._nodes.arriving(target.node_id, arrival):
            async with aclosing(copy(self._nodes, key, source, target, names={})) as events:
                async for event in events:
                    message = pb.CopyModelResponse(from_node=source.name, to_node=target.name)
                    arrival.add_to(message, event)
                    yield message

    def _way_of_copy(self, request: pb.CopyModelRequest) -> tuple[ModelKey, Node, Node]:
        """Return what is to be copied, from where and to where. Raises `PotluckError`."""
        if not request.to_node:
            raise BadRequest("Say to which machine: potluck copy MODEL NODE.")
        (target,) = nodes_called(request.to_node, self._nodes)
        keys, having = having_model(request.model, request.from_node, self._nodes, "")
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
        nodes = nodes_called(name, self._nodes)

        def worth(node: Node) -> tuple[bool, int]:
            return not node.draining, node.memory_free_bytes + node.spill_free_bytes

        return max(nodes, key=worth)


def _places(keys: list[ModelKey], having: list[Node]) -> list[tuple[bool, float, Node, ModelKey]]:
    """Return where the models are: whether they can be used there, and how good they are."""
    return [
        (model.problem is None, model.bits_per_weight, node, key)
        for node in having
        for key in keys
        if (model := node.files.get(key)) is not None
    ]
