"""The services of this user: systemd's user units, or launchd's agents, from the files of `deploy`.

What is installed differs from those files in two things: it names the program in full, and the home
where that is not the usual one.
"""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from potluck_proto.errors import SetupError
from potluck_proto.home import Home

DEPLOY = Path(__file__).resolve().parent / "deploy"
COMMAND_SECONDS = 60.0


class Services(Protocol):
    """What starts and stops daemons for a user."""

    def path(self, name: str) -> Path:
        """Return where the service's file is, or would be."""

    def check(self) -> None:
        """Raise `SetupError` where this user can have no services now; change nothing."""

    def install(self, name: str) -> Path:
        """Write and start a service; return its file. Raises `SetupError`."""

    def remove(self, name: str) -> bool:
        """Stop and delete a service; say whether it was there. Raises `SetupError`."""

    def state(self, name: str) -> str:
        """Return what is known of a service, in a few words."""

    def advice(self) -> str:
        """Return what a person should know besides; empty for nothing."""


def services(home: Home) -> Services:
    """Return this system's. Raises `SetupError` where there is none that is known."""
    if sys.platform == "darwin":
        return Launchd(home)
    if shutil.which("systemctl"):
        return Systemd(home)
    raise SetupError(
        "There is no systemd here. Have what starts programs on this system run "
        f"`{program('worker')}`, as this user."
    )


def is_service(home: Home, name: str) -> bool:
    """Say whether a daemon was installed as a service, which is started again by the system."""
    try:
        return services(home).path(name).exists()
    except SetupError:
        return False


def program(name: str) -> str:
    """Return the daemon's program, beside the Python that runs this."""
    return str(Path(sys.executable).parent / f"potluck-{name}")


def environment(home: Home) -> dict[str, str]:
    """Return what the service must be told: the home, where it is not the usual one."""
    return {"POTLUCK_HOME": str(home.root)} if os.environ.get("POTLUCK_HOME") else {}


@dataclass(frozen=True, slots=True)
class Systemd:
    """User units of systemd."""

    home: Home

    def path(self, name: str) -> Path:
        """Return where the unit is, or would be."""
        config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(config) / "systemd" / "user" / f"potluck-{name}.service"

    def check(self) -> None:
        """Ask the user's own systemd, which is not there for everybody."""
        try:
            _run("systemctl", "--user", "daemon-reload")
        except SetupError as error:
            raise SetupError(
                f"This user's services cannot be reached, and nothing was changed. {error.message} "
                "Log in as this user, not by su or sudo; without systemd, `potluck up` starts what "
                "stays until the machine is turned off."
            ) from error

    def install(self, name: str) -> Path:
        """Write, enable and start a unit."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.unit(name))
        _run("systemctl", "--user", "daemon-reload")
        _run("systemctl", "--user", "enable", "--now", path.name)
        return path

    def unit(self, name: str) -> str:
        """Return a unit for this installation."""
        lines = []
        for line in (DEPLOY / "systemd" / f"potluck-{name}.service").read_text().splitlines():
            if line.startswith("ExecStart="):
                lines += [
                    f'Environment="{k}={_escaped(v)}"' for k, v in environment(self.home).items()
                ]
                lines.append(f'ExecStart="{_escaped(program(name))}"')
            elif not line.startswith("Environment=PATH="):
                lines.append(line)
        return "\n".join([*lines, ""])

    def remove(self, name: str) -> bool:
        """Stop, disable and delete a unit."""
        path = self.path(name)
        if not path.exists():
            return False
        _run("systemctl", "--user", "disable", "--now", path.name)
        path.unlink()
        _run("systemctl", "--user", "daemon-reload")
        return True

    def state(self, name: str) -> str:
        """Return `active`, `failed` and so on."""
        path = self.path(name)
        if not path.exists():
            return "not installed"
        return _ask("systemctl", "--user", "is-active", path.name) or "unknown"

    def advice(self) -> str:
        """Explain lingering where it is off."""
        if _ask("loginctl", "show-user", str(os.getuid()), "--property=Linger") == "Linger=yes":
            return ""
        return (
            "A user's services run while that user is logged in. For a machine that shall serve "
            "without anybody at it, run `loginctl enable-linger` once."
        )


@dataclass(frozen=True, slots=True)
class Launchd:
    """Agents of launchd."""

    home: Home

    def path(self, name: str) -> Path:
        """Return where the agent is, or would be."""
        return Path.home() / "Library" / "LaunchAgents" / f"potluck.{name}.plist"

    def check(self) -> None:
        """Know nothing against it: launchd is there for whoever is logged in."""

    def install(self, name: str) -> Path:
        """Write and start an agent."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.agent(name))
        _ask("launchctl", "bootout", f"{self._domain}/potluck.{name}")
        _run("launchctl", "bootstrap", self._domain, str(path))
        return path

    def agent(self, name: str) -> bytes:
        """Return an agent for this installation."""
        agent = plistlib.loads((DEPLOY / "launchd" / f"potluck.{name}.plist").read_bytes())
        agent["ProgramArguments"] = [program(name)]
        if variables := environment(self.home):
            agent["EnvironmentVariables"] = variables
        return plistlib.dumps(agent)

    def remove(self, name: str) -> bool:
        """Stop and delete an agent."""
        path = self.path(name)
        if not path.exists():
            return False
        _ask("launchctl", "bootout", f"{self._domain}/potluck.{name}")
        path.unlink()
        return True

    def state(self, name: str) -> str:
        """Return whether it runs."""
        if not self.path(name).exists():
            return "not installed"
        found = _ask("launchctl", "print", f"{self._domain}/potluck.{name}")
        return "active" if "state = running" in found else "inactive"

    def advice(self) -> str:
        """Say when agents run."""
        return "An agent runs while its user is logged in."

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"


def _escaped(value: str) -> str:
    """Return a value as it stands between quotes in a unit."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def _run(*command: str) -> None:
    """Run a command. Raises `SetupError` with its words."""
    result = _result(command)
    if result.returncode:
        words = " ".join((result.stderr or result.stdout).split())
        raise SetupError(f"`{' '.join(command)}` failed: {words or 'without a word'}.")


def _ask(*command: str) -> str:
    """Return what a command prints, whatever its exit code; empty where it is not there."""
    return _result(command).stdout.strip() if shutil.which(command[0]) else ""


def _result(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
