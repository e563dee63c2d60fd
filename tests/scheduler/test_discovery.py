from __future__ import annotations

from pathlib import Path

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from potluck_proto.errors import ProtocolMismatch
from potluck_proto.home import Home
from potluck_proto.ids import NodeId
from potluck_proto.record import SERVICE_TYPE, WorkerRecord
from potluck_scheduler.discovery import Discovery


async def nothing(_: str) -> None:
    """Forget nobody."""


def discovery(home: Home) -> Discovery:
    return Discovery(home, "mine", insecure_lan=False, found=print, gone=nothing)


def info(port: int, cluster: str = "mine", node_id: str = "n", **extra: object) -> AsyncServiceInfo:
    record = WorkerRecord(NodeId(node_id), "x", cluster, (), "cpu", 1, 1)
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"x.{SERVICE_TYPE}",
        port=port,
        properties=record.to_properties() | extra,
        parsed_addresses=["192.0.2.7"],
    )


def test_a_worker_of_this_cluster_is_where_its_record_says(short_tmp: Path) -> None:
    home = Home(short_tmp)
    home.prepare()
    assert discovery(home).address_of(info(80)) == "192.0.2.7:80"
    assert discovery(home).address_of(info(80, cluster="theirs")) is None


def test_port_0_means_the_worker_of_this_home_alone(short_tmp: Path) -> None:
    home = Home(short_tmp)
    home.prepare()
    ours = discovery(home).address_of(info(0, node_id=home.node_id()))
    assert ours == f"unix:{home.worker_socket}"
    assert discovery(home).address_of(info(0)) is None


def test_records_by_strangers_are_refused_by_name(short_tmp: Path) -> None:
    home = Home(short_tmp)
    with pytest.raises(ValueError, match="malformed"):
        discovery(home).address_of(info(80, m=b"\x81\xa1x"))
    with pytest.raises(ProtocolMismatch):
        discovery(home).address_of(info(80, v="7"))
