from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import POTLUCK, Machine
from e2e.systemd import stand_in
from potluck_proto.home import Home
from potluck_tui.services import Launchd, Systemd


@dataclass(frozen=True)
class Served(Machine):
    """A machine with services."""

    programs: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a fresh login has, with what plays systemd first."""
        found = super().environment
        return found | {"PATH": f"{self.programs}:{found['PATH']}"}


@pytest.fixture
def served(short_tmp: Path) -> Iterator[Served]:
    # A home with what is special in a unit.
    machine = Served(Home(short_tmp / 'at "100%" home'), stand_in(short_tmp / "bin"))
    machine.home.prepare()
    yield machine
    machine.potluck("service", "remove")
    machine.potluck("down")
    assert not machine.processes()


def states(machine: Machine) -> dict[str, str]:
    found: dict[str, str] = json.loads(machine.potluck("service", "status", "--json").stdout)
    return found


def test_services_are_installed_shown_used_and_removed(served: Served) -> None:
    assert states(served) == {"scheduler": "not installed", "worker": "not installed"}
    served.add_fake_model("far-away", text="Hello.")
    installed = served.potluck("service", "install")
    assert installed.returncode == 0, installed.stderr
    assert "loginctl enable-linger" in installed.stdout
    assert states(served) == {"scheduler": "active", "worker": "active"}
    asked = served.potluck("ask", "-m", "far-away", "--json", "Hi")
    assert json.loads(asked.stdout)["answer"] == "Hello."
    removed = served.potluck("service", "remove")
    assert removed.stdout == "scheduler: removed\nworker: removed\n"
    assert states(served) == {"scheduler": "not installed", "worker": "not installed"}
    assert not served.processes()


def test_a_service_takes_the_place_of_what_runs_in_the_background(served: Served) -> None:
    served.potluck("up", "--only", "worker")
    installed = served.potluck("service", "install", "--only", "worker")
    assert installed.returncode == 0, installed.stderr
    assert states(served)["worker"] == "active"
    assert served.potluck("service", "remove", "--only", "scheduler").stdout == (
        "scheduler: was not installed\n"
    )


def test_where_no_services_can_be_had_what_runs_goes_on(served: Served) -> None:
    (served.programs / "systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    served.potluck("up", "--only", "worker")
    installed = served.potluck("service", "install")
    assert installed.returncode == 1
    assert "nothing was changed" in installed.stderr
    assert "no bus" in installed.stderr
    assert json.loads(served.potluck("status", "--json").stdout)["worker"]
    assert states(served) == {"scheduler": "not installed", "worker": "not installed"}


@pytest.mark.parametrize("name", ["worker", "scheduler"])
def test_systemd_understands_the_units(
    name: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "this test needs systemd"
    monkeypatch.setenv("POTLUCK_HOME", str(short_tmp / 'at "100%" home'))
    unit = short_tmp / f"potluck-{name}.service"
    unit.write_text(Systemd(Home.default()).unit(name))
    said = subprocess.run(
        [analyze, "--user", "--man=no", "verify", str(unit)],
        capture_output=True,
        text=True,
        env={"XDG_RUNTIME_DIR": str(short_tmp), "PATH": os.environ["PATH"]},
        check=True,
    )
    assert said.stderr == ""
    assert str(POTLUCK.parent / f"potluck-{name}") in unit.read_text()


@pytest.mark.parametrize("name", ["worker", "scheduler"])
def test_an_agent_of_launchd_names_program_and_home(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTLUCK_HOME", "/elsewhere")
    agent = plistlib.loads(Launchd(Home.default()).agent(name))
    assert agent["Label"] == f"potluck.{name}"
    assert agent["ProgramArguments"] == [str(POTLUCK.parent / f"potluck-{name}")]
    assert agent["EnvironmentVariables"] == {"POTLUCK_HOME": "/elsewhere"}
    assert agent["RunAtLoad"] is True


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has launchd always")
def test_a_system_without_services_is_told_what_to_run(machine: Machine) -> None:
    without = machine.environment | {"PATH": str(POTLUCK.parent)}
    refused = subprocess.run(
        [POTLUCK, "service", "install"],
        capture_output=True,
        text=True,
        env=without,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 1
    assert "There is no systemd here" in refused.stderr
    assert "potluck-worker" in refused.stderr
