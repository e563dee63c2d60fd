from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from e2e.conftest import POTLUCK, Machine
from e2e.network import hosts_on_a_bridge

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two machines on one network."""
    with hosts_on_a_bridge(2) as names:
        yield names


def run_on(host: str, machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on one of the hosts, with the machine's home."""
    return subprocess.run(
        ["ip", "netns", "exec", host, POTLUCK, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=machine.environment,
        timeout=60,
        check=False,
    )


def test_a_worker_on_another_machine_is_found_over_multicast_and_answers(
    machine: Machine, hosts: list[str]
) -> None:
    here, there = hosts
    other = Machine(type(machine.home)(machine.home.root.parent / "other"))
    other.add_fake_model("far-away", text="Hello from over there.")
    try:
        worker = run_on(
            there, other, "up", "--only", "worker", "--listen", "0.0.0.0:0", "--insecure-lan"
        )
        assert worker.returncode == 0, worker.stderr
        assert "INSECURE" in worker.stderr
        scheduler = run_on(here, machine, "up", "--only", "scheduler", "--insecure-lan")
        assert scheduler.returncode == 0, scheduler.stderr
        answer = run_on(here, machine, "ask", "-m", "far-away", "--json", "Hello?")
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["answer"] == "Hello from over there."
        nodes = json.loads(run_on(here, machine, "nodes", "--json").stdout)["nodes"]
        far = next(node for node in nodes if node["address"].startswith("10.77.0.2:"))
        assert far["found_by"] == ["zeroconf"]
        assert far["health"] == "NODE_HEALTH_READY"
    finally:
        assert other.potluck("down").returncode == 0


def test_without_the_flag_nobody_is_looked_for_on_the_network(
    machine: Machine, hosts: list[str]
) -> None:
    here, there = hosts
    other = Machine(type(machine.home)(machine.home.root.parent / "other"))
    other.add_fake_model("far-away")
    try:
        arguments = ("up", "--only", "worker", "--listen", "10.77.0.2:7421", "--insecure-lan")
        assert run_on(there, other, *arguments).returncode == 0
        assert run_on(here, machine, "up").returncode == 0
        refused = run_on(here, machine, "ask", "-m", "far-away", "Hello?")
        assert refused.returncode == 1
        assert "'far-away'" in refused.stderr
    finally:
        assert other.potluck("down").returncode == 0
