from __future__ import annotations

import asyncio

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from potluck_proto.errors import ProtocolMismatch
from potluck_proto.identity import Role
from potluck_proto.ids import NodeId
from potluck_proto.lan import Sighting, sighting_of
from potluck_proto.record import SERVICE_TYPE, Record
from potluck_scheduler.discovery import STRANGERS_LIMIT, Discovery

POOL = "mine"


class Watched:
    """A discovery that has not begun to look, and what it finds in what it is shown."""

    def __init__(self, pool: str = POOL) -> None:
        self.found: list[str] = []
        self.lost: list[str] = []
        self.changes = 0
        self.discovery = Discovery(
            NodeId("this"), lambda: pool, found=self.found.append, gone=self._gone,
            changed=self._changed,
        )  # fmt: skip

    async def _gone(self, address: str) -> None:
        self.lost.append(address)

    def _changed(self) -> None:
        self.changes += 1


def sighting(port: int, pool: str = POOL, node_id: str = "n", role: Role = Role.WORKER) -> Sighting:
    return Sighting(Record(role, NodeId(node_id), f"name-{node_id}", pool), f"192.0.2.7:{port}")


def test_a_worker_of_this_pool_is_found_where_its_record_says() -> None:
    watched = Watched()
    watched.discovery.seen(sighting(80))
    assert watched.found == ["192.0.2.7:80"]
    assert not watched.discovery.strangers()


def test_other_machines_are_strangers_and_are_never_called() -> None:
    watched = Watched()
    watched.discovery.seen(sighting(80, pool="theirs", node_id="a"))
    watched.discovery.seen(sighting(0, pool="", node_id="b"))
    assert not watched.found
    shown = [(s.name, s.address, s.paired) for s in watched.discovery.strangers()]
    assert shown == [("name-a", "192.0.2.7", True), ("name-b", "192.0.2.7", False)]


def test_without_a_pool_everybody_is_a_stranger() -> None:
    watched = Watched(pool="")
    watched.discovery.seen(sighting(80, pool=""))
    assert not watched.found
    assert len(watched.discovery.strangers()) == 1


def test_a_stranger_that_joins_is_one_no_more() -> None:
    watched = Watched()
    watched.discovery.seen(sighting(0, pool=""))
    watched.discovery.seen(sighting(80))
    assert watched.found
    assert not watched.discovery.strangers()


def test_this_machine_and_schedulers_are_neither() -> None:
    watched = Watched()
    watched.discovery.seen(sighting(80, node_id="this"))
    watched.discovery.seen(sighting(80, pool="theirs", role=Role.SCHEDULER))
    assert not watched.found
    assert not watched.discovery.strangers()


async def test_a_machine_that_takes_its_leave_is_gone() -> None:
    watched = Watched()
    watched.discovery.seen(sighting(80))
    watched.discovery.left(sighting(80))
    await asyncio.sleep(0)
    await watched.discovery.stop()
    assert watched.lost == ["192.0.2.7:80"]


def test_a_crowd_of_strangers_stays_small() -> None:
    watched = Watched()
    for number in range(2 * STRANGERS_LIMIT):
        watched.discovery.seen(sighting(0, pool="", node_id=str(number)))
    assert len(watched.discovery.strangers()) == STRANGERS_LIMIT


def announced(**extra: object) -> AsyncServiceInfo:
    record = Record(Role.WORKER, NodeId("n"), "x", POOL)
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"x.{SERVICE_TYPE}",
        port=80,
        properties=record.to_properties() | extra,
        parsed_addresses=["192.0.2.7"],
    )


def test_records_by_strangers_are_refused_by_name() -> None:
    assert sighting_of(announced()).address == "192.0.2.7:80"
    with pytest.raises(ValueError, match="malformed"):
        sighting_of(announced(m=b"\x81\xa1x"))
    with pytest.raises(ValueError, match="no role"):
        sighting_of(announced(r="owner"))
    with pytest.raises(ProtocolMismatch):
        sighting_of(announced(v="7"))
