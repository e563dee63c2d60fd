from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import POTLUCK, Machine
from e2e.sshd import Sshd, running_sshd
from e2e.systemd import stand_in
from potluck_proto.home import Home

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd on loopback needs root")

PIP = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
CACHE = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
PYTHON = Path(sys.executable).resolve()
STEPS = [
    *("Connecting to attic", "Python: ", "C++ compiler: ", "Copying potluck-", "Installing, "),
    *("potluck 0", "Installing the worker as a service", "worker: installed as ", "Done. "),
]


def install(near: Machine, sshd: Sshd) -> subprocess.CompletedProcess[str]:
    """Set the far machine up, as a person at the near one does."""
    return subprocess.run(
        [POTLUCK, "install", "--ssh", "attic"],
        capture_output=True,
        text=True,
        env=near.environment | {"PATH": f"{sshd.bin}:{near.environment['PATH']}"},
        timeout=600,
        check=False,
    )


@pytest.mark.timeout(600)
def test_a_machine_is_set_up_from_afar_and_its_worker_used(short_tmp: Path) -> None:
    near, user = Machine(Home(short_tmp / "near")), short_tmp / "user"
    near.home.prepare()
    user.mkdir()
    far = Machine(Home(user / ".local/share/potluck"))
    programs = stand_in(short_tmp / "bin")
    (programs / "python3").symlink_to(PYTHON)
    there = {"HOME": str(user), "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}
    with running_sshd(short_tmp / "sshd", there | PIP | {"PIP_CACHE_DIR": CACHE}) as sshd:
        installed = install(near, sshd)
        assert installed.returncode == 0, installed.stderr
        said = [step for line in installed.stderr.splitlines() for step in STEPS if step in line]
        assert said == STEPS, installed.stderr
        far.add_fake_model("far-away", text="Hello.")
        at = {"PATH": f"{sshd.bin}:{near.environment['PATH']}"}
        for command in (["nodes", "add", "ssh://attic"], ["ask", "-m", "far-away", "--json", "Hi"]):
            done = subprocess.run(
                [POTLUCK, *command],
                capture_output=True,
                text=True,
                env=near.environment | at,
                timeout=60,
                check=True,
            )
        assert json.loads(done.stdout)["answer"] == "Hello."
        near.potluck("down")
        subprocess.run(
            ["ssh", "attic", "~/.local/bin/potluck service remove"], env=at, timeout=60, check=True
        )
    assert not near.processes()


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (("cat", "sh", "mkdir"), "no Python 3.11"),
        (("cat", "sh", "mkdir", "python3"), "C++ compiler"),
    ],
)
def test_what_is_missing_there_is_said_before_anything_is_done(
    short_tmp: Path, there: tuple[str, ...], words: str
) -> None:
    near, programs = Machine(Home(short_tmp / "near")), short_tmp / "bin"
    near.home.prepare()
    programs.mkdir()
    for name in there:
        found = PYTHON if name == "python3" else shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    environment = {"HOME": str(short_tmp), "PATH": str(programs)}
    with running_sshd(short_tmp / "sshd", environment) as sshd:
        refused = install(near, sshd)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "apt install" in refused.stderr
    assert not (short_tmp / ".local").exists()
