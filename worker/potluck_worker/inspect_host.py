"""The child process that reads a model file: `python -m potluck_worker.inspect_host PATH`.

Prints one JSON object: `{"inspection": {...}}` with the fields of `base.Inspection`, or
`{"failure": {"code", "message", "fields"}}`. The file is untrusted, so the process limits itself.

Sizes come from the engine: a dry run makes the context without memory behind it, and llama.cpp
says what it would have taken.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import resource
import sys
from pathlib import Path

import psutil

from potluck_proto.errors import PotluckError
from potluck_worker import child
from potluck_worker.engines.base import Inspection, failure_of
from potluck_worker.engines.fake import FAKE_SUFFIX, FakeModel
from potluck_worker.engines.llama import require_library

CPU_LIMIT_SECONDS = 60

MEMORY_LIMIT_BYTES = 4 * 2**30
"""What the process may write to: a dry run takes some 100 MB, and a graphics driver a few more. The
limit is on data and not on addresses, of which drivers reserve as many as there are."""

DEFAULT_CONTEXT_TOKENS = 4096
"""What `--context 0` asks for: enough for a chat, and affordable with any model."""

SCHEMES = {"all F32": "F32", "Q2_K - Medium": "Q2_K", "IQ3_S mix - 3.66 bpw": "IQ3_M"}
"""What people call the file types that the library calls otherwise."""


def inspect_fake(path: Path, context_length: int, slots: int) -> Inspection:
    """Describe a model of the fake engine."""
    model = FakeModel.read(path)
    return Inspection(
        architecture="fake",
        parameter_count=0,
        quantization="",
        bits_per_weight=0.0,
        training_context_length=model.context_length,
        vocabulary_size=2**24,
        has_chat_template=True,
        embeds_only=False,
        title=path.name.removesuffix(FAKE_SUFFIX),
        license="mit",
        base_model="",
        tokenizer_sha256="fake",
        template_sha256="fake",
        context_length=context_within(model.context_length, context_length),
        slots=model.slots_of(slots),
        weights_bytes=model.memory_bytes,
        kv_cache_bytes=0,
        compute_bytes=0,
        process_bytes=_own_bytes(),
    )


def inspect_gguf(path: Path, context_length: int, slots: int, kv_type: str) -> Inspection:
    """Describe a GGUF file. Raises `PotluckError`."""
    require_library()
    from llama_cpp import llama_cpp as api

    from potluck_worker.engines.llama import library
    from potluck_worker.engines.llama.vocabulary import Vocabulary

    log = library.start()
    process_bytes = _own_bytes()
    model = library.Model(path, log, dry=True)
    model.require_use()
    metadata = model.metadata()
    vocabulary = Vocabulary(model.vocabulary)
    context_length = context_within(model.training_context_length, context_length)
    library.open_context(
        model,
        context_length=context_length,
        cells=context_length * slots,
        slots=slots,
        kv_type=kv_type,
    )
    weights_bytes = int(api.llama_model_size(model.pointer))
    parameters = int(api.llama_model_n_params(model.pointer))
    template = metadata.get("tokenizer.chat_template", "")
    file_type = api.llama_ftype_name(api.llama_model_ftype(model.pointer)) or b""
    return Inspection(
        architecture=metadata.get("general.architecture", ""),
        parameter_count=parameters,
        quantization=_scheme(file_type.decode()),
        bits_per_weight=8 * weights_bytes / max(1, parameters),
        training_context_length=model.training_context_length,
        vocabulary_size=vocabulary.size,
        has_chat_template=bool(template),
        embeds_only=model.embeds_only,
        title=metadata.get("general.name", ""),
        license=metadata.get("general.license", ""),
        base_model=metadata.get("general.base_model.0.name", ""),
        tokenizer_sha256=vocabulary.sha256(),
        template_sha256=hashlib.sha256(template.encode()).hexdigest(),
        context_length=context_length,
        slots=slots,
        weights_bytes=weights_bytes,
        kv_cache_bytes=log.kv_cache_bytes,
        compute_bytes=log.compute_bytes + model.late_bytes(context_length, slots),
        process_bytes=process_bytes,
    )


def context_within(longest: int, asked: int) -> int:
    """Return a context length in tokens that the model takes; 0 asks for the default."""
    return min(asked or DEFAULT_CONTEXT_TOKENS, longest)


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


def _own_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _limit(kind: int, most: int) -> None:
    """Let the system hold this process to a limit, or to a stricter one that it has already."""
    _, hard = resource.getrlimit(kind)
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (limit, limit))


def main() -> int:
    """Print what the file says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--context", type=int, required=True, help="tokens; 0 is the default")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    if options.lifeline:
        child.begin()
    _limit(resource.RLIMIT_CPU, CPU_LIMIT_SECONDS)
    _limit(resource.RLIMIT_DATA, MEMORY_LIMIT_BYTES)
    try:
        if options.path.name.endswith(FAKE_SUFFIX):
            inspection = inspect_fake(options.path, options.context, options.slots)
        else:
            inspection = inspect_gguf(options.path, options.context, options.slots, options.kv_type)
    except PotluckError as error:
        print(json.dumps({"failure": dataclasses.asdict(failure_of(error))}))
    else:
        print(json.dumps({"inspection": dataclasses.asdict(inspection)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
