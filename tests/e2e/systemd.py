"""What plays systemd where none runs: it starts and stops what real unit files say.

`stand_in` writes a `systemctl` that runs this module as a program, and a `loginctl`.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil


def stand_in(folder: Path) -> Path:
    """Write the two programs into a folder, and return it."""
    folder.mkdir()
    scripts = {
        "systemctl": f'exec {sys.executable} {__file__} {folder} "$@"',
        "loginctl": "echo Linger=no",
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def start(unit: Path, process_file: Path) -> None:
    """Start what a unit says, in the environment that it says."""
    environment = {name: os.environ[name] for name in ("HOME", "PATH")}
    command: list[str] = []
    for line in unit.read_text().splitlines():
        key, _, value = line.replace("%%", "%").partition("=")
        if key == "Environment":
            environment |= dict(part.split("=", 1) for part in shlex.split(value))
        elif key == "ExecStart":
            command = shlex.split(value)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process_file.write_text(str(process.pid))


def lives(process_id: int) -> bool:
    """Say whether a process has not ended, collected or not."""
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main(folder: Path, *arguments: str) -> int:
    """Do what `systemctl --user` does with these arguments."""
    verbs = [argument for argument in arguments if not argument.startswith("--")]
    if verbs[0] == "daemon-reload":
        return 0
    unit = Path(os.environ["HOME"]) / ".config" / "systemd" / "user" / verbs[1]
    process_file = folder / verbs[1]
    running = process_file.exists() and lives(int(process_file.read_text()))
    match verbs[0]:
        case "enable":
            start(unit, process_file)
        case "disable":
            process = psutil.Process(int(process_file.read_text()))
            process.send_signal(signal.SIGTERM)
            psutil.wait_procs([process], timeout=15)
            process_file.unlink()
        case "is-active":
            print("active" if running else "inactive")
            return 0 if running else 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
