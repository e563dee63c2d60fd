"""The child process that reads model files.

`python -m potluck_worker.inspect_host VERB [QUESTION]`: the question is JSON, and so is the answer,
on standard output. Files are untrusted, so the process limits itself.

| verb | question | answer |
| --- | --- | --- |
| `describe` | `sizing.Question` | `sizing.Described`: what the file says, how this node holds it |
| `plan` | `sizing.Question` | `sizing.Plan`: how this node holds it |
| `fit` | `sizing.Question` | `sizing.Fit`: what it takes in one way, and what would fit |
| `cards` | none | a list of `sizing.Card`: the cards that the engine sees |
| `architectures` | none | a list of names: those of `gguf_names.py` that llama.cpp knows |

A failure is `{"failure": {"code", "message", "fields"}}`.

What a file is, its name says: `open_model` has a line for each engine. Sizes of a GGUF file come
from llama.cpp; those of a checkpoint are reckoned from its headers, since vLLM is not asked in less
than half a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from potluck_proto.errors import PotluckError
from potluck_worker import child, engine_host
from potluck_worker.engines import ways
from potluck_worker.engines.base import failure_of
from potluck_worker.engines.fake import FAKE_SUFFIX, FakeModel, FakeSizer
from potluck_worker.engines.gguf_names import GGUF_NAMES
from potluck_worker.engines.inspection import Inspection, LicenceWords, Lineage
from potluck_worker.engines.lineage import lineage
from potluck_worker.engines.llama import require_library
from potluck_worker.engines.sizing import Card, Described, Fit, Plan, Question, Room, Sizer

CPU_LIMIT_SECONDS = 60

AS_LARGE_AS = engine_host
"""Imported so that this process is as large as an engine's child is without its model: what it
measures of itself goes into the estimates."""

MEMORY_LIMIT_BYTES = 4 * 2**30
"""What the process may write to: a dry run takes some 100 MB, and a graphics driver a few more. The
limit is on data and not on addresses, of which drivers reserve as many as there are."""

SCHEMES = {"all F32": "F32", "Q2_K - Medium": "Q2_K", "IQ3_S mix - 3.66 bpw": "IQ3_M"}
"""What people call the file types that the library calls otherwise."""


Opened = tuple[Sizer, Callable[[], Inspection]]
"""A file to be asked for sizes, and what it says of itself."""


def open_model(question: Question) -> Opened:
    """Open a file with the engine that runs it. Raises `PotluckError`."""
    path = Path(question.path)
    if path.name.endswith(FAKE_SUFFIX):
        return _open_fake(path)
    return _open_checkpoint(path, question.room) if path.is_dir() else _open_gguf(path)


def _open_fake(path: Path) -> Opened:
    model = FakeModel.read(path)
    inspection = Inspection(
        architecture="fake",
        parameter_count=0,
        active_parameter_count=0,
        quantization=model.quantization,
        bits_per_weight=model.bits_per_weight,
        bytes_by_type={},
        training_context_length=model.context_length,
        vocabulary_size=2**24,
        has_chat_template=True,
        template_supports=("system",),
        embeds_only=False,
        modalities=("text",),
        title=path.name.removesuffix(FAKE_SUFFIX),
        lineage=Lineage(tuning="tuned", tuning_source="it is a fake"),
        licence=LicenceWords("mit"),
        tokenizer_sha256="fake",
        template_sha256="fake",
    )
    return FakeSizer(model), lambda: inspection


def _open_gguf(path: Path) -> Opened:
    require_library()
    from potluck_worker.engines.llama import library
    from potluck_worker.engines.llama.sizer import LlamaSizer

    sizer = LlamaSizer(path, library.start())
    return sizer, lambda: _inspect_gguf(path, sizer.model)


def _inspect_gguf(path: Path, model: Any) -> Inspection:
    from llama_cpp import llama_cpp as api

    from potluck_worker.engines.llama.header import read_header
    from potluck_worker.engines.llama.vocabulary import Vocabulary
    from potluck_worker.engines.template_features import features

    metadata, header = model.metadata(), read_header(path)
    vocabulary = Vocabulary(model.vocabulary)
    weights_bytes = int(api.llama_model_size(model.pointer))
    parameters = int(api.llama_model_n_params(model.pointer))
    template = metadata.get("tokenizer.chat_template", "")
    tool_use = metadata.get("tokenizer.chat_template.tool_use", "")
    file_type = api.llama_ftype_name(api.llama_model_ftype(model.pointer)) or b""
    return Inspection(
        architecture=metadata.get("general.architecture", ""),
        parameter_count=parameters,
        active_parameter_count=parameters - round(header.expert_weights * model.idle_experts),
        quantization=_scheme(file_type.decode()),
        bits_per_weight=8 * weights_bytes / max(1, parameters),
        bytes_by_type=header.bytes_by_type,
        training_context_length=model.training_context_length,
        vocabulary_size=vocabulary.size,
        has_chat_template=bool(template),
        template_supports=features(template, tool_use),
        embeds_only=model.embeds_only,
        modalities=("text",),
        title=metadata.get("general.name", ""),
        lineage=lineage(
            organization=metadata.get("general.organization", ""),
            base_models=_base_models(metadata),
            finetune=metadata.get("general.finetune", ""),
            title=metadata.get("general.name", ""),
            tags=header.tags,
            file_name=path.stem,
            has_chat_template=bool(template),
        ),
        licence=LicenceWords(
            metadata.get("general.license", ""),
            metadata.get("general.license.name", ""),
            metadata.get("general.license.link", ""),
        ),
        tokenizer_sha256=vocabulary.sha256(),
        template_sha256=hashlib.sha256(template.encode()).hexdigest(),
    )


def _base_models(metadata: Mapping[str, str]) -> Iterator[str]:
    """Yield what a GGUF file says that its model was made from."""
    count = metadata.get("general.base_model.count", "0")
    for number in range(min(int(count), 20) if count.isdecimal() else 0):
        key = f"general.base_model.{number}"
        place = metadata.get(f"{key}.repo_url", "").rstrip("/").split("/")
        maker = metadata.get(f"{key}.organization", "").replace(" ", "-")
        names = place[-2:] if len(place) >= 5 else (maker, metadata.get(f"{key}.name", ""))
        yield "/".join(filter(None, names))


def _open_checkpoint(folder: Path, room: Room) -> Opened:
    from potluck_worker.engines.vllm.checkpoint import Checkpoint
    from potluck_worker.engines.vllm.sizer import VllmSizer

    checkpoint = Checkpoint.read(folder)
    return VllmSizer(checkpoint, room), checkpoint.inspect


def _scheme(file_type: str) -> str:
    """Return the name that people use, such as Q4_K_M, of llama.cpp's name for a file type.

    The library says `Q4_K - Medium` and adds `(guessed)` where the file does not say.
    """
    name = file_type.removeprefix("(guessed)").removesuffix("(guessed)").strip()
    if name in SCHEMES:
        return SCHEMES[name]
    for words, letter in ((" - Small", "_S"), (" - Medium", "_M"), (" - Large", "_L")):
        name = name.replace(words, letter)
    return name.split(" ")[0]


def describe(question: Question) -> Described:
    """Return what a file says of itself, and how this node holds it. Raises `PotluckError`."""
    sizer, inspect = open_model(question)
    return Described(inspect(), _plan(sizer, question))


def plan(question: Question) -> Plan:
    """Return how this node holds a file. Raises `PotluckError`."""
    sizer, _ = open_model(question)
    return _plan(sizer, question)


def _plan(sizer: Sizer, question: Question) -> Plan:
    # The settings are for all models; none gets a longer context than it was trained for.
    longest, asked = sizer.training_context_length, question.options.context_length or 0
    options = replace(question.options, context_length=min(asked, longest))
    return ways.plan(sizer, options, question.room, shorten=question.shorten)


def fit(question: Question) -> Fit:
    """Return what a file takes in one way, and what would fit. Raises `PotluckError`."""
    sizer, _ = open_model(question)
    return ways.fit(sizer, question.options, question.room)


def cards() -> Sequence[Card]:
    """Return the cards that the engine sees. Raises `EngineMissing`."""
    require_library()
    from potluck_worker.engines.llama import devices, library

    library.start()
    return devices.cards()


def architectures() -> Sequence[str]:
    """Return which of the architectures llama.cpp knows. Raises `EngineMissing`."""
    require_library()
    from potluck_worker.engines.llama import library
    from potluck_worker.engines.llama.architectures import known

    return known(sorted(set(GGUF_NAMES.values())), library.start())


GENERAL: Mapping[str, Callable[[], Any]] = {"cards": cards, "architectures": architectures}
"""What is asked of the engine and not of a file."""

VERBS: Mapping[str, Callable[[Question], Any]] = {"describe": describe, "plan": plan, "fit": fit}


def _limit(kind: int, most: int) -> None:
    """Let the system hold this process to a limit, or to a stricter one that it has already."""
    _, hard = resource.getrlimit(kind)
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (limit, limit))


def main() -> int:
    """Answer one question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=[*VERBS, *GENERAL])
    parser.add_argument("question", nargs="?", help="JSON")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    if options.lifeline:
        child.begin()
    _limit(resource.RLIMIT_CPU, CPU_LIMIT_SECONDS)
    _limit(resource.RLIMIT_DATA, MEMORY_LIMIT_BYTES)
    try:
        answer: Any = _answer(options)
    except PotluckError as error:
        answer = {"failure": failure_of(error)}
    print(msgspec.json.encode(answer).decode())
    return 0


def _answer(options: argparse.Namespace) -> Any:
    if options.verb in GENERAL:
        return GENERAL[options.verb]()
    return VERBS[options.verb](msgspec.json.decode(options.question, type=Question))


if __name__ == "__main__":
    sys.exit(main())
