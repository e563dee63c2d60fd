"""What can be fetched as pages of a screen, in the words of the commands."""

from __future__ import annotations

from typing import assert_never

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui import instructions as do
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.commands import hub, recommend
from potluck_tui.hub import Offer, Page
from potluck_tui.knowledge.quality import quality
from potluck_tui.orders import Fetch
from potluck_tui.words import context, count, label, size

FOUND_LIMIT = 50


async def ask(request: do.HubRequest, client: PoolClient) -> Page:
    """Return the answer to a question. Raises `PotluckError`."""
    stub = client.stub
    match request:
        case do.Recommend():
            return _recommended(await client.call(stub.Recommend, pb.RecommendRequest()))
        case do.SearchHub(words):
            search = pb.SearchModelsRequest(query=words, limit=FOUND_LIMIT)
            found = await client.call(stub.SearchModels, search, hub.HUB_SECONDS)
            return _found(words, found)
        case do.ListRepository(name):
            listing = pb.ListRepositoryRequest(repository=name)
            return _listed(await client.call(stub.ListRepository, listing, hub.HUB_SECONDS))
        case _:
            assert_never(request)


def _recommended(response: pb.RecommendResponse) -> Page:
    offers = tuple(map(_recommendation, response.recommendations))
    none = "No model of the catalogue fits any machine of this pool."
    notes = recommend.recommendation_notes(response) if offers else none
    return Page("What would run well here", recommend.HEADER, offers, notes, recommend.SPARE)


def _recommendation(found: pb.Recommendation) -> Offer:
    repository, variant = clean(found.repository), clean(found.quantization)
    return Offer(
        name=label(repository, variant),
        cells=tuple(recommend.recommendation_row(found)),
        words=_recommendation_words(found),
        fetch=Fetch(repository, variant, clean(found.node_name), size(found.file_bytes)),
        present=found.present,
    )


def _recommendation_words(found: pb.Recommendation) -> str:
    known = quality(found.quantization)
    how = "as measured there" if found.measured else "by the bandwidth of such memory"
    if found.partly_offloaded:
        how += ", with some layers in main memory"
    active = found.active_parameter_count
    experts = f", {count(active)} for each token" if active < found.parameter_count else ""
    cost = f" ({known.cost} perplexity)" if known.cost else ""
    measured = f" M{recommend.measured_words(found)[1:]}" if found.HasField("benchmark") else ""
    return clean(
        f"{found.name} on {found.node_name}: {count(found.parameter_count)} parameters{experts}; "
        f"as {found.quantization} with {context(found.context_length)} context it needs "
        f"{size(found.memory_needed_bytes)} and writes {found.tokens_per_second:.0f} tokens/s, "
        f"{how}.{measured} Quality against 16 bits: {known.words}{cost}. "
        f"Good for {', '.join(found.uses)}. "
        f"Licence {found.licence}. From {found.repository} ({found.source}, {found.source_date})."
    )


def _found(words: str, response: pb.SearchModelsResponse) -> Page:
    offers = tuple(
        Offer(
            name=clean(found.name),
            cells=tuple(hub.repository_row(found)),
            words="; ".join((*hub.origin_lines(found), *hub.quantization_lines(found))),
        )
        for found in response.repositories
    )
    notes = hub.REPOSITORY_NOTE if offers else hub.none_found(words)
    return Page(f"Search: {words}", hub.REPOSITORY_HEADER, offers, notes, hub.REPOSITORY_SPARE)


def _listed(response: pb.ListRepositoryResponse) -> Page:
    found, node = response.repository, clean(response.node_name)
    name = clean(found.name)
    about = f"{name}: {'; '.join(hub.origin_lines(found))}.{_gate_words(found)}"
    offers = tuple(
        Offer(
            name=label(name, variant.name),
            cells=tuple(hub.variant_row(variant, node)),
            words=about,
            fetch=Fetch(name, clean(variant.name), node, size(variant.size_bytes)),
            present=variant.present,
        )
        for variant in response.variants
    )
    notes = " ".join(hub.variant_notes()) if offers else f"{name} has nothing that can be fetched."
    return Page(name, hub.VARIANT_HEADER, offers, notes, hub.VARIANT_SPARE)


def _gate_words(found: types.HubRepository) -> str:
    if not found.gated:
        return ""
    return " Its maker wants to be asked first: accept its terms there, then `potluck login`."
