"""Which architectures each engine runs, as it says itself: asked once for each of its versions.

llama.cpp is asked in the inspecting child. vLLM lists its classes, and runs some of Transformers'
beside them; to load all that takes its Python some 20 seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from potluck_proto.errors import EngineMissing, ModelFileError, PotluckError, UnsupportedModel
from potluck_proto.kept import KeptFile
from potluck_worker import questions
from potluck_worker.availability import GGUF_INSTEAD, EngineAvailability
from potluck_worker.child import WATCHMAN
from potluck_worker.child_output import output_of
from potluck_worker.engines.gguf_names import GGUF_NAMES
from potluck_worker.engines.inspection import Inspection

log = logging.getLogger(__name__)

LIST_CLASSES = f"""
import json, subprocess
subprocess.Popen(["/bin/sh", "-c", {WATCHMAN!r}, "watchman", ""], stdout=-3, stderr=-3)
import transformers
from vllm.model_executor.models.registry import ModelRegistry
others = [name for name in dir(transformers) if "For" in name or name.endswith("Model")]
print("\\n" + json.dumps(sorted({{*ModelRegistry.get_supported_archs(), *others}})))
"""
"""Of Transformers' classes, which vLLM tries where it has none of its own, all are listed: what is
not in the list cannot run, and what is may still be refused as it is loaded."""

LIST_SECONDS = 120.0
"""A slow machine loads vLLM in a minute."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a version of an engine runs; nothing where it would not say."""

    version: str
    names: tuple[str, ...]


class Architectures:
    """What each engine runs, as far as it was asked.

    Args:
        file: Where the answers are kept between runs; `None` keeps none.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = KeptFile(file, dict[str, Answer], "architectures") if file else None
        self._answers = (self._file and self._file.read()) or {}

    async def learn(
        self, llama: EngineAvailability, vllm: EngineAvailability, vllm_python: str
    ) -> bool:
        """Ask those engines that are here and were not asked; say whether something is new."""
        asked: Mapping[str, tuple[EngineAvailability, Callable[[], Awaitable[list[str]]]]] = {
            "llama": (llama, _ask_llama),
            "vllm": (vllm, lambda: _ask_vllm(vllm_python)),
        }
        news = False
        for name, (engine, ask) in asked.items():
            if not engine.available or self._of(engine) is not None:
                continue
            try:
                names = await ask()
            except (PotluckError, OSError, ValueError, TimeoutError) as error:
                log.warning("%s does not say what it runs: %s", name, error)
                names = []
            self._answers[name] = Answer(engine.version, tuple(names))
            news = True
        if news and self._file is not None:
            # Those that would not say it are asked again by the next daemon.
            said = {name: answer for name, answer in self._answers.items() if answer.names}
            await asyncio.to_thread(self._file.write, said)
        return news

    def problem(
        self, name: str, found: Inspection, llama: EngineAvailability, vllm: EngineAvailability
    ) -> PotluckError | None:
        """Return why vLLM does not run a checkpoint of that name here, and what would."""
        if vllm.advice:
            gguf = self._gguf(found, llama)
            if gguf is False:
                why = f"And llama.cpp does not know {found.architecture}, so no GGUF file would do."
                return EngineMissing(f"{vllm.advice.removesuffix(GGUF_INSTEAD)} {why}")
            return EngineMissing(vllm.advice)
        classes = self._of(vllm)
        if not classes or not found.classes or classes & set(found.classes):
            return None
        if found.embeds_only:
            return None  # vLLM finds those by other names too
        other = " A newer vLLM may."
        if self._gguf(found, llama):
            other = " llama.cpp runs it: take a GGUF file instead."
        return UnsupportedModel(
            f"{name} is a {found.classes[0]} ({found.architecture}), which vLLM {vllm.version} "
            f"does not run.{other}"
        )

    def _gguf(self, found: Inspection, llama: EngineAvailability) -> bool | None:
        """Say whether llama.cpp runs such a model, `None` where that is not known."""
        names, name = self._of(llama), GGUF_NAMES.get(found.architecture)
        return None if not names or name is None else name in names

    def _of(self, engine: EngineAvailability) -> frozenset[str] | None:
        """Return what this version runs: nothing where it would not say, `None` where unasked."""
        answer = self._answers.get(engine.name)
        if answer is None or answer.version != engine.version:
            return None
        return frozenset(answer.names)


async def _ask_llama() -> list[str]:
    return await questions.ask("architectures", list[str])


async def _ask_vllm(python: str) -> list[str]:
    output = await output_of((python, "-c", LIST_CLASSES), LIST_SECONDS)
    lines = output.decode(errors="replace").splitlines()
    if not lines:
        raise ModelFileError("vLLM cannot be loaded.")
    names: list[str] = json.loads(lines[-1])
    return names
