from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from e2e.conftest import POTLUCK, Machine
from e2e.sshd import Sshd, running_sshd
from e2e.terminal import Terminal
from potluck_proto.home import Home

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd on loopback needs root")

WORDS = " ".join(f"word{number}" for number in range(60))


@dataclass(frozen=True)
class Far(Machine):
    """The machine at the other end of ssh."""

    sshd: Sshd


@dataclass(frozen=True)
class Near(Machine):
    """The machine that the user sits at; its `ssh` is the user's own."""

    ssh_folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a fresh login has, with the user's ssh first."""
        found = super().environment
        path = f"{self.ssh_folder}:{found['PATH']}"
        return found | {"PATH": path, "TMPDIR": str(self.temporary_files)}

    @property
    def temporary_files(self) -> Path:
        """Where programs of this machine put theirs."""
        folder = self.home.root.parent / "t"
        folder.mkdir(exist_ok=True)
        return folder


@pytest.fixture
def far(short_tmp: Path) -> Iterator[Far]:
    """Yield a machine with a model that this one lacks, behind an sshd and a jump host."""
    home = Home(short_tmp / "far")
    environment = {"POTLUCK_HOME": str(home.root), "PATH": f"{POTLUCK.parent}:/usr/bin:/bin"}
    with running_sshd(short_tmp / "sshd", environment) as sshd:
        far = Far(home, sshd)
        far.add_fake_model("far-away", text=WORDS, tokens_per_second=30)
        yield far
        far.potluck("down")
        assert not far.processes()


@pytest.fixture
def near(short_tmp: Path, far: Far) -> Iterator[Near]:
    """Yield the machine at this end."""
    near = Near(Home(short_tmp / "near"), far.sshd.bin)
    near.home.prepare()
    yield near
    assert near.potluck("down").returncode == 0
    assert not near.processes()


def no_session_is_left(far: Far) -> bool:
    return not [s for s in far.sshd.sessions() if s.status() != psutil.STATUS_ZOMBIE]


def until_no_session_is_left(far: Far) -> None:
    psutil.wait_procs(far.sshd.sessions(), timeout=20)
    assert no_session_is_left(far)


def test_a_question_is_answered_by_the_pool_of_another_machine(near: Near, far: Far) -> None:
    asked = near.potluck("--ssh", "attic", "ask", "-m", "far-away", "--json", "Hi")
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["answer"] == WORDS
    assert not near.processes()
    assert far.processes()
    until_no_session_is_left(far)


def test_the_terminal_here_shows_the_pool_there_and_outlives_the_link(
    near: Near, far: Far, short_tmp: Path
) -> None:
    terminal = Terminal(near, short_tmp)
    try:
        terminal.type(f"{POTLUCK} --ssh attic", "Enter")
        terminal.until(lambda screen: "1 node ready" in screen)
        terminal.type("Hello", "Enter")
        terminal.until(lambda screen: "word5" in screen)
        far.sshd.cut()
        done = terminal.until(lambda screen: "tokens/s" in screen)
        assert [word for word in done.split() if word.startswith("word")] == WORDS.split()
        terminal.type("", "C-q")
        terminal.until(lambda screen: "$ " in screen or "# " in screen)
    finally:
        terminal.close()
    assert not near.processes()
    until_no_session_is_left(far)


def test_a_killed_terminal_leaves_no_ssh_behind(near: Near, far: Far, short_tmp: Path) -> None:
    terminal = Terminal(near, short_tmp)
    try:
        terminal.type(f"{POTLUCK} --ssh attic", "Enter")
        terminal.until(lambda screen: "1 node ready" in screen)
        terminal.kill()
    finally:
        terminal.close()
    until_no_session_is_left(far)
    psutil.wait_procs(near.processes(), timeout=20)
    assert not near.processes()
    deadline = time.monotonic() + 20
    while (left := list(near.temporary_files.glob("potluck-*"))) and time.monotonic() < deadline:
        time.sleep(0.05)  # between two looks at the condition
    assert not left


def test_a_worker_through_ssh_loses_no_word_when_the_link_is_cut_and_outlives_a_restart(
    near: Near, far: Far
) -> None:
    added = near.potluck("nodes", "add", "ssh://attic")
    assert added.returncode == 0, added.stdout + added.stderr
    assert "ready" in added.stdout
    with subprocess.Popen(
        [POTLUCK, "ask", "-m", "far-away", "Hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=near.environment,
    ) as asking:
        assert asking.stdout is not None
        first = os.read(asking.stdout.fileno(), 4_096)
        far.sshd.cut()
        answer = first + asking.stdout.read()
    assert len(first) < len(WORDS)
    assert answer.decode() == WORDS + "\n"
    near.potluck("down")
    until_no_session_is_left(far)
    near.potluck("up")
    again = near.potluck("ask", "-m", "far-away", "--json", "Hi")
    while again.returncode and "far-away" in again.stderr:
        again = near.potluck("ask", "-m", "far-away", "--json", "Hi")
    assert json.loads(again.stdout)["answer"] == WORDS
    assert near.potluck("nodes", "remove", "ssh://attic").returncode == 0
    until_no_session_is_left(far)


def test_a_changed_host_key_refuses_with_the_words_of_ssh(near: Near, far: Far) -> None:
    far.sshd.stop()
    far.sshd.new_host_key()
    far.sshd.start()
    for arguments in (("--ssh", "attic", "nodes"), ("nodes", "add", "ssh://attic")):
        refused = near.potluck(*arguments)
        assert refused.returncode == 1
        said = refused.stdout + refused.stderr
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in said
        assert "Traceback" not in said
    listed = near.potluck("nodes").stdout
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in listed
    far.sshd.trust_host_key()
    added = near.potluck("nodes", "add", "ssh://attic")
    while added.returncode:
        added = near.potluck("nodes", "add", "ssh://attic")


def test_a_machine_without_potluck_is_told_with_how_to_install_it(
    near: Near, short_tmp: Path
) -> None:
    with running_sshd(short_tmp / "bare", {"PATH": "/usr/bin:/bin"}) as bare:
        refused = subprocess.run(
            [POTLUCK, "--ssh", "attic", "nodes"],
            capture_output=True,
            text=True,
            env=near.environment | {"PATH": f"{bare.bin}:{near.environment['PATH']}"},
            timeout=60,
            check=False,
        )
    assert refused.returncode == 1
    assert "potluck install --ssh attic" in refused.stderr


def test_nobody_there_is_said_with_the_words_of_ssh(near: Near, far: Far) -> None:
    far.sshd.stop()
    try:
        refused = near.potluck("--ssh", "attic", "nodes")
        assert refused.returncode == 1
        assert "Connection refused" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    finally:
        far.sshd.start()
