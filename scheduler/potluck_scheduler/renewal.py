"""Renewing the catalogue: what the hub says of its rows now."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable

from potluck_proto.errors import PotluckError
from potluck_proto.v1 import worker_pb2 as worker
from potluck_scheduler.catalogue import Catalogue, Renewed

TOGETHER = 4
"""Repositories that are asked about at once."""

Ask = Callable[[str], Awaitable[worker.ListHubResponse]]
"""Asks the hub about a repository. Raises `PotluckError`."""


async def renew(
    catalogue: Catalogue, ask: Ask
) -> tuple[dict[str, Renewed], dict[str, PotluckError]]:
    """Return what the hub says of each repository, and why it says nothing of others."""
    renewed: dict[str, Renewed] = {}
    failed: dict[str, PotluckError] = {}
    together = asyncio.Semaphore(TOGETHER)

    async def look(repository: str) -> None:
        async with together:
            try:
                renewed[repository] = _said(await ask(repository))
            except PotluckError as error:
                failed[repository] = error

    await asyncio.gather(*(look(row.repository) for row in catalogue.rows))
    return renewed, failed


def _said(response: worker.ListHubResponse) -> Renewed:
    found = response.repository
    return Renewed(
        parameters=found.parameter_count,
        licence=found.licence.id,
        downloads=found.downloads,
        sizes={variant.name: variant.size_bytes for variant in response.variants},
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    )
