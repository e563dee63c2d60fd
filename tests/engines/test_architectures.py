"""Which engine runs which family: llama.cpp is asked itself, for vLLM a stand-in answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines.stand_in import FAMILIES, NO_VLLM, VLLM, vllm_python
from potluck_proto.errors import EngineMissing, UnsupportedModel
from potluck_worker import questions
from potluck_worker.architectures import Architectures
from potluck_worker.availability import llama_availability
from potluck_worker.engines.gguf_names import GGUF_NAMES
from potluck_worker.engines.inspection import Inspection, LicenceWords, Lineage


def checkpoint(model_type: str, name: str) -> Inspection:
    """Return what a checkpoint says of itself, as far as it matters here."""
    return Inspection(
        architecture=model_type,
        parameter_count=1,
        active_parameter_count=1,
        quantization="BF16",
        bits_per_weight=16.0,
        bytes_by_type={},
        training_context_length=2048,
        vocabulary_size=32000,
        has_chat_template=False,
        template_supports=(),
        embeds_only=False,
        modalities=("text",),
        title="",
        lineage=Lineage(),
        licence=LicenceWords(),
        tokenizer_sha256="",
        template_sha256="",
        weights_sha256="",
        classes=(name,),
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return vllm_python(tmp_path_factory.mktemp("python"))


@pytest.fixture
async def known(tmp_path: Path, python: str) -> Architectures:
    """Return what both engines say, llama.cpp really."""
    known = Architectures(tmp_path / "architectures.json")
    assert await known.learn(llama_availability(), VLLM, python)
    return known


async def test_every_architecture_of_the_table_but_opt_is_llama_cpps() -> None:
    names = set(await questions.ask("architectures", list[str]))
    assert set(GGUF_NAMES.values()) - names == {"opt"}


async def test_each_family_resolves_to_both_engines(known: Architectures) -> None:
    for model_type, name in FAMILIES.values():
        found = checkpoint(model_type, name)
        assert known.problem("m", found, llama_availability(), VLLM) is None
        error = known.problem("m", found, llama_availability(), NO_VLLM)
        assert isinstance(error, EngineMissing)
        assert error.message.endswith("take a GGUF file instead.")


async def test_opt_is_vllms_alone(known: Architectures) -> None:
    found = checkpoint("opt", "OPTForCausalLM")
    assert known.problem("m", found, llama_availability(), VLLM) is None
    error = known.problem("m", found, llama_availability(), NO_VLLM)
    assert isinstance(error, EngineMissing)
    assert error.message == (
        "vLLM is not installed. And llama.cpp does not know opt, so no GGUF file would do."
    )


async def test_what_vllm_does_not_run_is_said_with_what_does(known: Architectures) -> None:
    mamba = known.problem("m", checkpoint("mamba", "MambaForCausalLM"), llama_availability(), VLLM)
    assert isinstance(mamba, UnsupportedModel)
    assert "MambaForCausalLM (mamba), which vLLM 0.32.0 does not run" in mamba.message
    assert "llama.cpp runs it: take a GGUF file" in mamba.message
    new = known.problem("m", checkpoint("newest", "NewestForCausalLM"), llama_availability(), VLLM)
    assert isinstance(new, UnsupportedModel)
    assert new.message.endswith("A newer vLLM may.")
    embedder = replace(checkpoint("newest", "NewestModel"), embeds_only=True)
    assert known.problem("m", embedder, llama_availability(), VLLM) is None


async def test_each_version_is_asked_once(tmp_path: Path, known: Architectures) -> None:
    llama = llama_availability()
    for again in (known, Architectures(tmp_path / "architectures.json")):
        assert not await again.learn(llama, VLLM, "/nowhere")
    newer = replace(VLLM, version="0.33.0")
    found = checkpoint("mamba", "MambaForCausalLM")
    assert known.problem("m", found, llama, newer) is None  # it may run that
    assert await known.learn(llama, newer, "/nowhere")
    assert known.problem("m", found, llama, newer) is None
    # One that would not say it is not asked again by this daemon, and is by the next.
    assert not await known.learn(llama, newer, "/nowhere")
    assert await Architectures(tmp_path / "architectures.json").learn(llama, newer, "/nowhere")


async def test_a_damaged_file_is_as_none(tmp_path: Path, python: str) -> None:
    (tmp_path / "architectures.json").write_text('{"llama": 3}')
    known = Architectures(tmp_path / "architectures.json")
    assert await known.learn(llama_availability(), VLLM, python)
