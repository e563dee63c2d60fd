from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pytest

from e2e.capture import Capture, captured
from e2e.conftest import POTLUCK, Machine
from e2e.network import hosts_on_a_bridge, outer_end
from pairing.forging import FORGERIES, forged
from potluck_proto.home import Home
from potluck_proto.identity import Role
from potluck_proto.record import Record

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

TESTS = Path(__file__).resolve().parents[1]
PROMPT = "a-prompt-that-must-not-be-read"
ANSWER = "an-answer-that-must-not-be-read"


@dataclass(frozen=True)
class Host:
    """A machine of its own on the network."""

    name: str
    machine: Machine

    def run(self, *command: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command there, with `typed` as its standard input."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            input=typed,
            capture_output=True,
            text=True,
            env=self.machine.environment | {"PYTHONPATH": str(TESTS)},
            timeout=60,
            check=False,
        )

    def potluck(self, *arguments: str, typed: str = "") -> str:
        """Run `potluck` there; return what it prints."""
        result = self.run(str(POTLUCK), *arguments, typed=typed)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def listed(self) -> dict[str, list[dict[str, object]]]:
        """Return what `potluck nodes` lists."""
        found: dict[str, list[dict[str, object]]] = json.loads(self.potluck("nodes", "--json"))
        return found


@dataclass(frozen=True)
class Paired:
    """A pool of two machines, a third one beside it, and what went over the network meanwhile."""

    hall: Host
    attic: Host
    street: Host
    line: str
    capture: Capture


@pytest.fixture(scope="module")
def paired() -> Iterator[Paired]:
    with (
        tempfile.TemporaryDirectory(prefix="pl-") as folder,
        hosts_on_a_bridge(3) as names,
        captured(outer_end(names[0])) as capture,
    ):
        hall, attic, street = hosts = [
            Host(name, Machine(Home(Path(folder) / str(n)))) for n, name in enumerate(names)
        ]
        for host in hosts:
            host.machine.home.prepare()
        try:
            attic.machine.add_fake_model("far-away", text=ANSWER)
            hall.potluck("up", "--only", "scheduler")
            line = hall.potluck("invite").strip()
            attic.potluck("join", typed=line)
            yield Paired(hall, attic, street, line, capture)
        finally:
            for host in hosts:
                host.potluck("down")
                assert not host.machine.processes()


def attic_node(paired: Paired) -> dict[str, object]:
    """Return the other machine as the pool sees it."""
    (node,) = [n for n in paired.hall.listed()["nodes"] if "10.77.0.2:" in str(n["address"])]
    return node


def worker_address(paired: Paired) -> str:
    """Return where the worker listens."""
    return str(attic_node(paired)["address"])


def test_a_worker_that_joined_answers_from_its_machine(paired: Paired) -> None:
    answer = paired.hall.potluck("ask", "-m", "far-away", "--json", PROMPT)
    assert json.loads(answer)["answer"] == ANSWER
    assert attic_node(paired)["health"] == "NODE_HEALTH_READY"
    # It was called where it joined from; zeroconf asks around before it tells.
    for _ in range(30):
        if "zeroconf" in attic_node(paired)["found_by"]:  # type: ignore[operator]
            return
    raise AssertionError("it was not announced")


def test_neither_secret_nor_prompt_nor_answer_went_over_the_network_in_clear(
    paired: Paired,
) -> None:
    paired.hall.potluck("ask", "-m", "far-away", PROMPT)
    everything = paired.capture.everything
    assert len(everything) > 10_000
    secret = paired.line.rpartition("/")[2]
    for words in (secret, secret.upper(), PROMPT, ANSWER, "PRIVATE KEY"):
        assert words.encode() not in everything


def test_zeroconf_tells_what_the_design_lists_and_nothing_else(paired: Paired) -> None:
    records = paired.capture.announced()
    assert records
    for record in records:
        assert record.keys() == {b"v", b"r", b"c", b"m"}
        assert msgpack.unpackb(record[b"m"]).keys() == {"id", "n", "e", "a", "mt", "mf"}
        Record.from_properties(dict(record))


SOCKETS = """
import json, psutil
print(json.dumps([
    [c.type == 1, c.laddr.ip, c.laddr.port]
    for c in psutil.net_connections("inet")
    if c.status in ("LISTEN", "NONE")
]))
"""

TRY = """
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
address = (sys.argv[1], int(sys.argv[2]))
said = b""
GET = b"GET /healthz HTTP/1.1\\r\\n\\r\\n"
HTTP2 = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"
for open_ in (lambda s: s, context.wrap_socket):
    for words in (GET, HTTP2):
        try:
            with open_(socket.create_connection(address, timeout=10)) as s:
                s.sendall(words)
                said += s.recv(1000)
        except OSError:
            pass
print(said)
"""


def test_no_open_port_of_the_pool_answers_without_a_certificate(paired: Paired) -> None:
    client = paired.hall.potluck("invite", "--role", "client").strip()
    paired.street.potluck("join", typed=client)
    tried = 0
    try:
        for number, host in ((1, paired.hall), (2, paired.attic)):
            sockets = json.loads(host.run(sys.executable, "-c", SOCKETS).stdout)
            for is_tcp, ip, port in sockets:
                if ip.startswith("127.") or ip == "::1":
                    continue
                if not is_tcp:
                    assert port == 5353
                    continue
                said = paired.street.run(sys.executable, "-c", TRY, f"10.77.0.{number}", str(port))
                assert said.stdout == "b''\n", (port, said.stdout, said.stderr)
                tried += 1
        assert tried == 2
        assert json.loads(paired.street.potluck("ask", "-m", "far-away", "--json", "Hi"))["answer"]
    finally:
        paired.street.potluck("leave")


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_machine_with_a_certificate_that_is_none_is_refused_once_in_the_log_and_shown(
    paired: Paired, kind: str
) -> None:
    folder = paired.street.machine.home.root
    identity = forged(kind, paired.hall.machine.home.authority_file, folder)
    for _ in range(2):
        knock = paired.street.run(
            sys.executable, "-m", "e2e.knock", worker_address(paired), str(identity.path)
        )
        assert knock.stdout.startswith("out: "), knock
    refused_in_the_log_once(paired, kind)


def test_a_client_is_refused_at_a_worker(paired: Paired) -> None:
    paired.street.potluck("join", typed=paired.hall.potluck("invite", "--role", "client"))
    path = paired.street.machine.home.identity_file(Role.CLIENT)
    try:
        knock = paired.street.run(
            sys.executable, "-m", "e2e.knock", worker_address(paired), str(path)
        )
    finally:
        paired.street.potluck("leave")
    assert "is a client and no scheduler" in knock.stdout
    refused_in_the_log_once(paired, "is a client and no scheduler")


def refused_in_the_log_once(paired: Paired, reason: str) -> None:
    """Check how the worker told of the third machine."""
    said = (paired.attic.machine.home.logs / "worker.log").read_text()
    lines = [line for line in said.splitlines() if "turned away" in line]
    words = {"not yet": "does not count yet"}.get(reason, reason)
    assert sum("10.77.0.3" in line and words in line for line in lines) == 1, lines
    node = attic_node(paired)
    state: dict[str, list[dict[str, str]]] = node["state"]  # type: ignore[assignment]
    assert any(words in refusal["reason"] for refusal in state["refusals"])
    assert "10.77.0.3" in paired.hall.potluck("nodes")


def test_a_machine_that_is_not_paired_is_seen_with_how_to_invite_it(paired: Paired) -> None:
    paired.street.potluck("up", "--only", "worker")
    until_listed(paired, "strangers", 1)
    shown = paired.hall.potluck("nodes")
    assert "10.77.0.3" in shown
    assert "potluck invite" in shown
    assert "potluck join" in shown


def test_no_process_has_a_secret_among_its_arguments(paired: Paired) -> None:
    secret = paired.line.rpartition("/")[2]
    for host in (paired.hall, paired.attic):
        for process in host.machine.processes():
            assert secret not in " ".join(process.cmdline())
            assert secret not in " ".join(process.environ().values())
        for log in host.machine.home.logs.iterdir():
            assert secret not in log.read_text(errors="replace")


def test_a_removed_machine_is_refused_and_shown(paired: Paired) -> None:
    (member,) = [m for m in paired.hall.listed()["members"] if m["role"] == "worker"]
    paired.hall.potluck("nodes", "remove", str(member["node_id"]))
    refused = paired.hall.run(str(POTLUCK), "nodes", "add", "10.77.0.2")
    assert refused.returncode == 1
    assert "was removed from this pool" in refused.stdout
    assert attic_node(paired)["health"] == "NODE_HEALTH_REFUSED"
    said = (paired.hall.machine.home.logs / "scheduler.log").read_text()
    assert said.count("was removed from this pool") == 1


def until_listed(paired: Paired, kind: str, count: int) -> None:
    """Wait until `potluck nodes` lists some things."""
    for _ in range(30):
        if len(paired.hall.listed().get(kind, [])) == count:
            return
    raise AssertionError(f"no {count} {kind} were listed")
