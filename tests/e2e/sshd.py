"""A real sshd on loopback, and a user's ssh that knows it: through a jump host, as `attic`."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SSHD = "/usr/sbin/sshd"

SSHD_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PermitUserEnvironment no
Subsystem sftp internal-sftp
SetEnv {environment}
"""

SSH_CONFIG = """
Host attic
    HostName 127.0.0.1
    Port {port}
    ProxyJump jump
Host jump
    HostName 127.0.0.1
    Port {port}
Host *
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    LogLevel ERROR
"""


@dataclass
class Sshd:
    """The daemon, and where its user's ssh is.

    Attributes:
        bin: A folder with an `ssh` that has this user's configuration.
    """

    folder: Path
    environment: Mapping[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def bin(self) -> Path:
        """The folder with this user's `ssh`."""
        return self.folder / "bin"

    def start(self) -> None:
        """Listen."""
        config = self.folder / "sshd_config"
        variables = " ".join(f"{name}={value}" for name, value in self.environment.items())
        config.write_text(
            SSHD_CONFIG.format(folder=self.folder, port=self.port, environment=variables)
        )
        log = str(self.folder / "sshd.log")
        self.process = subprocess.Popen([SSHD, "-D", "-f", str(config), "-E", log])
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                assert self.process.poll() is None, Path(log).read_text()
            else:
                return

    def stop(self) -> None:
        """Listen no more, and cut what is open."""
        assert self.process is not None
        self.cut()
        self.process.kill()
        self.process.wait()

    def sessions(self) -> list[psutil.Process]:
        """Return the processes of open connections."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def cut(self) -> None:
        """Kill all open connections, as hard as can be."""
        for session in self.sessions():
            # The death of one ends another.
            with contextlib.suppress(psutil.NoSuchProcess):
                if session.name().startswith("sshd"):
                    session.kill()

    def new_host_key(self) -> None:
        """Become another machine, as far as ssh can tell."""
        _make_key(self.folder / "host_key")

    def trust_host_key(self) -> None:
        """Have the user's ssh know this host key."""
        public = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")


@contextlib.contextmanager
def running_sshd(folder: Path, environment: Mapping[str, str]) -> Iterator[Sshd]:
    """Run an sshd.

    Args:
        folder: For keys and configuration.
        environment: What a session there has beside the usual.
    """
    assert Path(SSHD).exists(), "these tests need openssh-server"
    Path("/run/sshd").mkdir(exist_ok=True)
    folder.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sshd = Sshd(folder, environment, port)
    sshd.new_host_key()
    sshd.trust_host_key()
    _make_key(folder / "user_key")
    user = psutil.Process().username()
    (folder / "ssh_config").write_text(SSH_CONFIG.format(folder=folder, port=port, user=user))
    sshd.bin.mkdir()
    wrapper = sshd.bin / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.stop()


def _make_key(path: Path) -> None:
    for old in (path, path.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
