"""The one folder that holds all state of a pool on this machine.

`POTLUCK_HOME` names it, so that several pools can live side by side; without it, it is `potluck`
in the user's data folder. Everything in it is private: the folder has mode 0700.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import HomeError
from potluck_proto.ids import NodeId, new_id

SOCKET_PATH_LIMIT_BYTES = 103
"""The shortest limit of a unix socket's path among our platforms (macOS; Linux allows 107)."""


def default_root() -> Path:
    """Return the folder that `POTLUCK_HOME` names, else the user's data folder for Potluck."""
    if named := os.environ.get("POTLUCK_HOME"):
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "potluck"


@dataclass(frozen=True, slots=True)
class Home:
    """Where things are in a home. Nothing is created before `prepare`."""

    root: Path

    @classmethod
    def default(cls) -> Home:
        """Return the home that the environment names."""
        return cls(default_root())

    @property
    def settings_file(self) -> Path:
        """`settings.toml`, with a table for each daemon."""
        return self.root / "settings.toml"

    @property
    def models(self) -> Path:
        """Model files that the user puts here are found."""
        return self.root / "models"

    @property
    def downloads(self) -> Path:
        """Models on their way here, on the disk where they will be; nothing in it is listed."""
        return self.models / ".downloads"

    @property
    def added_models_file(self) -> Path:
        """Paths of models elsewhere that the user added."""
        return self.root / "added-models.json"

    @property
    def templates_file(self) -> Path:
        """Prompt formats that were chosen for models of this machine."""
        return self.root / "templates.json"

    @property
    def hub_token(self) -> Path:
        """The user's token for the model hub, where no keyring has it; readable by nobody else."""
        return self.root / "hub-token"

    @property
    def logs(self) -> Path:
        """A log file for each daemon, and one for each engine child."""
        return self.root / "logs"

    @property
    def chat_store(self) -> Path:
        """The SQLite database of chats."""
        return self.root / "chats.sqlite3"

    @property
    def drafts_file(self) -> Path:
        """What was typed and not sent, by chat."""
        return self.root / "drafts.json"

    @property
    def pasted(self) -> Path:
        """Long texts that were pasted into a prompt."""
        return self.root / "pasted"

    @property
    def exports(self) -> Path:
        """Chats that were written to files."""
        return self.root / "exports"

    @property
    def scheduler_socket(self) -> Path:
        """Where the local scheduler listens."""
        return self.root / "run" / "scheduler.sock"

    @property
    def worker_socket(self) -> Path:
        """Where the local worker listens for the local scheduler."""
        return self.root / "run" / "worker.sock"

    @property
    def authority_file(self) -> Path:
        """The key by which the pool of this home lets machines in; made with the first invite."""
        return self.root / "identity" / "authority.pem"

    @property
    def members_file(self) -> Path:
        """The machines that were let in."""
        return self.root / "identity" / "members.json"

    @property
    def added_workers_file(self) -> Path:
        """Addresses of workers that a person added."""
        return self.root / "workers.json"

    @property
    def client_pool_file(self) -> Path:
        """Where the scheduler is whose client this machine is."""
        return self.root / "identity" / "client.json"

    def identity_file(self, role: str) -> Path:
        """What this machine is to a pool in one role; absent where it is nothing."""
        return self.root / "identity" / f"{role}.pem"

    def prepare(self) -> None:
        """Create the folders. Raises `HomeError` where that cannot be."""
        limit = SOCKET_PATH_LIMIT_BYTES
        length = len(os.fsencode(self.scheduler_socket))
        if length > limit:
            raise HomeError(
                f"The path of the local socket, {self.scheduler_socket}, is {length} bytes long; "
                f"the system allows {limit}. Set POTLUCK_HOME to a shorter folder.",
                path=self.scheduler_socket,
                limit=limit,
            )
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = (self.scheduler_socket.parent, self.authority_file.parent)
            for folder in (self.models, self.logs, *private):
                folder.mkdir(mode=0o700, exist_ok=True)
            probe = self.root / f".write-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise HomeError(
                f"Potluck keeps its state in {self.root}, which cannot be written "
                f"({error.strerror}). Make it writable, or set POTLUCK_HOME to another folder.",
                path=self.root,
            ) from error
        for folder in private:
            _check_private(folder)

    def node_id(self) -> NodeId:
        """Return this installation's id, made at first use."""
        return NodeId(self._identifier("node-id"))

    def _identifier(self, name: str) -> str:
        path = self.root / name
        try:
            with path.open("x") as file:
                file.write(new_id())
        except FileExistsError:
            pass
        return path.read_text().strip()


def _check_private(folder: Path) -> None:
    """Raise `HomeError` for a folder of keys or sockets that another user can enter.

    Whoever can enter the folder of the sockets could call the daemons: the kernel lets in whom the
    modes of folder and socket let in, and asks nothing else.
    """
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise HomeError(
            f"The folder {folder} is open to other users (mode {status.st_mode & 0o777:o}, owner "
            f"{status.st_uid}). Close it with `chmod 700 {folder}`.",
            path=folder,
        )


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once or not at all, readable by this user alone."""
    scratch = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
