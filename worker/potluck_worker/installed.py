"""Which engines are installed here, and under which Python each runs.

llama.cpp is a library of the worker's own Python. vLLM pins its libraries, so it may have a Python
of its own, in which nothing of Potluck is installed: its children find our packages over
`PYTHONPATH`, in a folder that holds links to them and nothing else, so that all other libraries are
those of that Python.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import potluck_proto
import potluck_worker
from potluck_proto.errors import PotluckError
from potluck_worker.architectures import Architectures
from potluck_worker.availability import EngineAvailability, llama_availability, vllm_advice
from potluck_worker.child_output import output_of
from potluck_worker.engines.inspection import Inspection
from potluck_worker.engines.sizing import HOST, Room

log = logging.getLogger(__name__)

OUR_PACKAGES = (potluck_proto, potluck_worker)

NEEDED = ("vllm", "google.protobuf", "grpc", "jinja2", "msgspec", "psutil", "pydantic")
"""What the child of another Python must find there; vLLM brings all of it."""

PROBE = f"""
import importlib.metadata, importlib.util, json
def there(name):
    try: return importlib.util.find_spec(name) is not None
    except ImportError: return False
missing = [name for name in {NEEDED!r} if not there(name)]
name, *_ = importlib.metadata.packages_distributions().get("vllm") or [""]
version = importlib.metadata.version(name) if name else "unknown"
print(json.dumps({{"missing": missing, "name": name, "version": version}}))
"""

PROBE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that children run under."""

    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    """What its children's environment has beside the daemon's."""


OWN = Interpreter()
"""The daemon's own."""


class Engines:
    """The engines of this node.

    Args:
        vllm_python: The Python that has vLLM; `None` is the worker's own.
        links: Folder for the links to our packages that another Python gets; made where needed.
        architectures: Where it is kept what the engines run; `None` keeps it nowhere.
    """

    def __init__(
        self,
        vllm_python: Path | None = None,
        links: Path | None = None,
        architectures: Path | None = None,
    ) -> None:
        self._vllm_python = vllm_python and vllm_python.expanduser()
        self._links = links
        self._architectures = Architectures(architectures)
        self.vllm = self._own_vllm()

    @property
    def llama(self) -> EngineAvailability:
        """llama.cpp."""
        return llama_availability()

    @property
    def all(self) -> tuple[EngineAvailability, ...]:
        """All engines, those that are missing too."""
        return self.llama, self.vllm

    def problem(self, engine: str, name: str, found: Inspection) -> PotluckError | None:
        """Return why the engine of a model does not run it here, and what would."""
        if engine != "vllm":
            return None
        return self._architectures.problem(name, found, self.llama, self.vllm)

    async def learn_architectures(self) -> bool:
        """Ask the engines what they run, each version once; say whether something is new.

        Takes vLLM half a minute.
        """
        python = self.interpreter("vllm").python
        return await self._architectures.learn(self.llama, self.vllm, python)

    def within_reach(self, engine: str, room: Room) -> Room:
        """Return what an engine may take of some room: vLLM computes on cards or on processors."""
        if engine != "vllm" or self.vllm_has_cards:
            return room
        return Room({HOST: room.free_bytes[HOST]})

    @property
    def vllm_has_cards(self) -> bool:
        """Whether vLLM is here, built for cards."""
        return self.vllm.available and "cpu" not in self.vllm.version

    def interpreter(self, engine: str) -> Interpreter:
        """Return the Python under which an engine runs."""
        if engine != "vllm" or self._vllm_python is None or self._links is None:
            return OWN
        return Interpreter(str(self._vllm_python), {"PYTHONPATH": str(self._links)})

    async def look(self) -> None:
        """Ask the other Python what it has. Takes a moment; call once, before models are shown."""
        if self._vllm_python is None or self._links is None:
            return
        await asyncio.to_thread(_link_packages, self._links)
        self.vllm = await _probe(self._vllm_python)
        log.info("vLLM under %s: %s", self._vllm_python, self.vllm.version or self.vllm.advice)

    def _own_vllm(self) -> EngineAvailability:
        if self._vllm_python is not None:
            return EngineAvailability("vllm", "", f"{self._vllm_python} was not asked yet.")
        if find_spec("vllm") is None:
            return EngineAvailability("vllm", "", vllm_advice())
        return EngineAvailability("vllm", _own_version(), "")


def _own_version() -> str:
    name, *_ = importlib.metadata.packages_distributions().get("vllm") or [""]
    return _version(name, importlib.metadata.version(name) if name else "unknown")


def _version(name: str, version: str) -> str:
    """Return a version that tells a build for processors; one goes by a name instead."""
    return f"{version}+cpu" if "cpu" in name and "cpu" not in version else version


def _link_packages(folder: Path) -> None:
    """Have a folder hold links to our packages, as they are now, and nothing else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for package in OUR_PACKAGES:
        assert package.__file__ is not None
        link = folder / package.__name__
        link.unlink(missing_ok=True)
        link.symlink_to(Path(package.__file__).parent, target_is_directory=True)


async def _probe(python: Path) -> EngineAvailability:
    """Ask another Python whether it can run vLLM, without loading it."""
    named = f"{python}, which the setting worker.vllm_python names,"
    try:
        said = json.loads(await output_of((python, "-c", PROBE), PROBE_SECONDS))
    except (TimeoutError, ValueError):
        return EngineAvailability("vllm", "", f"{named} is no Python that works.")
    except OSError as error:
        return EngineAvailability("vllm", "", f"{named} cannot be run: {error.strerror}.")
    if said["missing"]:
        return EngineAvailability(
            "vllm",
            "",
            f"{named} lacks {', '.join(said['missing'])}. Install it there: "
            f"{python} -m pip install vllm.",
        )
    return EngineAvailability("vllm", _version(said["name"], said["version"]), "")
